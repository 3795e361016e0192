"""MoE-Adapters around a frozen CLIP: experts shared by all tasks, a router for each (paper, Sec. 3.2, 3.3).

    x = x + MHA(LN1(x));  x = x + MLP(LN2(x)) + sum over the chosen experts of gate * expert(x)

Router and experts see x after attention, not normalised. The task, the gates and what is counted are
arguments and return values; the released code keeps them in module globals and a text file that the next run
inherits.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor, nn

from lib.clip import towers
from lib.moe.config import Blocks, MoEConfig
from lib.moe.mixture import Mixture
from lib.moe.router import Routing

# from tokens (B, L, D), or only those that are read (B, N, D) if the flag says so, the router's for each sample (B, D)
Pick = Callable[[Tensor, bool], Tensor]


class Encoded(NamedTuple):
    """Features (B, F), not normalised, and for each block with an adapter where the samples went."""

    features: Tensor
    routings: dict[int, Routing]


class Prompts(NamedTuple):
    """Tokens (C, L) made ready for many passes: in groups of like length, and what the frozen CLIP says below the first
    adapter, which no task changes.

    rows: of each group (n,). below: of each group, in the first block with an adapter, x (n, L, D) after attention and
    what the MLP adds to it; without adapters in the text tower the features (n, F) twice.
    """

    tokens: Tensor
    rows: list[Tensor]
    below: list[tuple[Tensor, Tensor]]


class MoECLIP(nn.Module):
    """A CLIP of open_clip, frozen and always in eval mode, with adapters beside the MLPs of its blocks.

    A new model's features equal CLIP's bit for bit. Tasks are numbered 0, 1, 2, ... as add_task makes them;
    task None asks the frozen CLIP. Noise and dropout act in training mode only.
    """

    top_k: Tensor
    clip: open_clip.CLIP

    def __init__(self, clip: open_clip.CLIP, config: MoEConfig) -> None:
        super().__init__()
        towers.check(clip)
        self.config, self.clip = config, clip.requires_grad_(False).eval()
        image: Any = clip.visual
        self.image_adapters = _adapters(image.transformer, config.image_blocks, config, "image_blocks")
        self.text_adapters = _adapters(clip.transformer, config.text_blocks, config, "text_blocks")
        self.register_buffer("top_k", torch.tensor(config.top_k))  # no shape tells it: kept to check a state
        self.to(clip.logit_scale.device)

    def train(self, mode: bool = True) -> "MoECLIP":
        """Sets the adapters' mode; CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        return self

    @property
    def num_tasks(self) -> int:
        """T, the tasks that have been added."""
        return len(next(iter(self.adapters().values())).counts)

    def adapters(self) -> dict[str, Mixture]:
        """Every block's adapter by its name in the state, the image tower first."""
        named: dict[str, Any] = {"image_adapters": self.image_adapters, "text_adapters": self.text_adapters}
        return {f"{tower}.{i}": adapter for tower, group in named.items() for i, adapter in group.items()}

    def add_task(self) -> int:
        """A new router in every block, earlier ones frozen; returns the task's number."""
        for adapter in self.adapters().values():
            adapter.add_task()
        return self.num_tasks - 1

    def encode_image(
        self,
        images: Tensor,
        task: int | None,
        noise: Mapping[int, Tensor] | None = None,
        whole: bool = True,
    ) -> Encoded:
        """Encodes images (B, 3, H, W) by a task's routers; `noise` gives some blocks' draws (B, E).

        whole=False spares the last block the tokens that nothing reads: equal but for rounding.
        """
        if task is None:
            return Encoded(self.clip.encode_image(images), {})
        work, routings = self._work(self.image_adapters, lambda x, _: x[:, 0], task, noise)
        return Encoded(towers.image_tower(self.clip, images, work, whole), routings)

    def encode_text(
        self, tokens: Tensor | Prompts, task: int | None, noise: Mapping[int, Tensor] | None = None
    ) -> Encoded:
        """Encodes tokens (C, L), all with one start token, by a task's routers; `noise` gives draws (C, E).

        Padding after the longest prompt is cut, which may change the last bits. Prompts, made ready, take a shorter way
        to the same numbers but for rounding. Task None is CLIP's own full context.
        """
        if task is None:
            return Encoded(self.clip.encode_text(tokens.tokens if isinstance(tokens, Prompts) else tokens), {})
        if isinstance(tokens, Tensor):
            work, routings = self._work(self.text_adapters, self._text_pick(tokens), task, noise)
            return Encoded(towers.text_group(self.clip, tokens, work, whole=True), routings)
        self._check_task(task)
        parts = []
        for rows, below in zip(tokens.rows, tokens.below, strict=True):
            draws = None if noise is None else {block: drawn[rows] for block, drawn in noise.items()}
            parts.append(self._encode_group(tokens.tokens[rows], task, draws, below))
        return parts[0] if len(parts) == 1 else _in_order(parts, torch.cat(tokens.rows).argsort())

    def _encode_group(
        self, tokens: Tensor, task: int, noise: Mapping[int, Tensor] | None, below: tuple[Tensor, Tensor]
    ) -> Encoded:
        if not self.text_adapters:
            return Encoded(below[0], {})
        work, routings = self._work(self.text_adapters, self._text_pick(tokens), task, noise, below)
        return Encoded(towers.text_group(self.clip, tokens, work), routings)

    def prepare(self, tokens: Tensor) -> Prompts:
        """Makes tokens (C, L) ready for many passes."""
        rows = towers.by_length(tokens, towers.WORTH[self.top_k.device.type])
        return Prompts(tokens, rows, [self._below(tokens[group]) for group in rows])

    @torch.no_grad()
    def _below(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What Prompts know of a group of tokens (n, L)."""
        first, kept = min(map(int, self.text_adapters), default=-1), []

        def keep(index: int, block: Any, x: Tensor, mask: Tensor | None, read: Tensor | None) -> Tensor:
            if index < first or first < 0:
                return towers.plain(index, block, x, mask, read)
            if index == first:
                x = towers.attend(block, x, mask, read)
                kept.append((x, block.ls_2(block.mlp(block.ln_2(x)))))
            return x

        features = towers.text_group(self.clip, tokens, keep)
        return kept[0] if kept else (features, features)

    def _text_pick(self, tokens: Tensor) -> Pick:
        if self.config.text_router_token == "end":
            ends = tokens.argmax(dim=1).to(self.top_k.device)
            return lambda x, read: x[:, -1] if read else x[torch.arange(len(x), device=x.device), ends]
        if self.training:
            return lambda x, _: x[:, 0]
        return lambda x, _: x[:1, 0]  # causal, and no noise or dropout: one vector for all prompts

    def _work(
        self,
        adapters: nn.ModuleDict,
        pick: Pick,
        task: int,
        noise: Mapping[int, Tensor] | None,
        below: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[towers.Block, dict[int, Routing]]:
        """The blocks' work with adapters beside the MLPs, and the routings that it fills as it goes.

        below: x after attention in the first block with an adapter and what the MLP adds to it, if they are known.
        """
        self._check_task(task)
        routings: dict[int, Routing] = {}
        first = min(map(int, adapters), default=-1)

        def work(
            index: int,
            block: towers.ResidualAttentionBlock,
            x: Tensor,
            mask: Tensor | None,
            read: Tensor | None,
        ) -> Tensor:
            if str(index) not in adapters:
                return x if below and index < first else towers.plain(index, block, x, mask, read)
            known = below if index == first else None
            x = known[0] if known else towers.attend(block, x, mask, read)
            draws = None if noise is None else noise.get(index)
            added, routings[index] = adapters[str(index)](x, pick(x, read is not None), task, draws)
            plain = known[1] if known else block.ls_2(block.mlp(block.ln_2(x)))
            return x + plain + added

        return work, routings

    def _check_task(self, task: int) -> None:
        if not 0 <= task < self.num_tasks:
            known = f"0 to {self.num_tasks - 1}" if self.num_tasks else "none"
            raise ValueError(f"there is no task {task}; tasks so far: {known}. add_task() makes the next one")

    def trainable_parameters(self, task: int) -> list[tuple[str, nn.Parameter]]:
        """Names and tensors that a task trains: all experts and its own routers."""
        self._check_task(task)
        router = 0 if self.config.router == "shared" else task
        ours = [(name, p) for name, p in self.named_parameters() if not name.startswith("clip.")]
        return [(name, p) for name, p in ours if ".routers." not in name or f".routers.{router}." in name]

    def add_counts(self, task: int, image: Mapping[int, Routing], text: Mapping[int, Routing]) -> None:
        """Adds how often a training forward's routings chose each expert; call it for every one."""
        adapters = self.adapters()
        for tower, routings in (("image_adapters", image), ("text_adapters", text)):
            for index, routing in routings.items():
                adapters[f"{tower}.{index}"].add_counts(task, routing)

    def freeze(self, task: int) -> None:
        """Activate-freeze in every block, after the last training step of a task."""
        for adapter in self.adapters().values() if self.config.freeze else ():
            adapter.freeze(task)

    def settled(self, encoded: Encoded, tower: str) -> Tensor:
        """For each sample (B,) that the "image" or "text" tower encoded: True if every expert on its way is frozen.

        The same router, if it learns no more, then sends it the same way to the same numbers for good.
        """
        kept = torch.ones(len(encoded.features), dtype=torch.bool, device=encoded.features.device)
        for index, routing in encoded.routings.items():
            kept &= getattr(self, f"{tower}_adapters")[str(index)].frozen[routing.experts].all(dim=1)
        return kept

    def mask_frozen_gradients(self) -> None:
        """Call between backward and the optimiser's step: frozen experts then stay bit for bit."""
        for adapter in self.adapters().values():
            adapter.mask_frozen_gradients()

    def adapter_state(self) -> dict[str, Tensor]:
        """All that is not CLIP: experts, routers, frozen, counts, K; live tensors, as in a state_dict."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("clip.")}

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes up an adapter_state with all its tasks. Raises ValueError, changing nothing, if it cannot."""
        tasks = max((len(v) for name, v in state.items() if name.endswith(".counts") and v.ndim), default=0)
        _compare(state, self._shapes(tasks), self.config.top_k)
        for adapter in self.adapters().values():
            adapter.routers, adapter.counts, adapter.mass = (
                nn.ModuleList(),
                adapter.counts[:0],
                adapter.mass[:0],
            )
            for _ in range(tasks):
                adapter.add_task()
        self.load_state_dict(dict(state), strict=False)

    def _shapes(self, tasks: int) -> dict[str, torch.Size]:
        shapes = {"top_k": self.top_k.shape}
        with torch.device("meta"):
            for name, adapter in self.adapters().items():
                twin = Mixture(adapter.width, self.config)
                for _ in range(tasks):
                    twin.add_task()
                shapes |= {f"{name}.{key}": tensor.shape for key, tensor in twin.state_dict().items()}
        return shapes


def _in_order(parts: list[Encoded], order: Tensor) -> Encoded:
    """Groups' features and routings as those of all prompts in their order (C,)."""
    order = order.to(parts[0].features.device)
    blocks = parts[0].routings
    routings = {block: Routing.together([part.routings[block] for part in parts], order) for block in blocks}
    return Encoded(torch.cat([part.features for part in parts])[order], routings)


def _adapters(tower: Any, where: Blocks, config: MoEConfig, name: str) -> nn.ModuleDict:
    depth = len(tower.resblocks)
    named = {"all": list(range(depth)), "first": [0], "last": [depth - 1], "none": []}
    indices = named[where] if isinstance(where, str) else sorted(set(where))
    outside = [i for i in indices if not 0 <= i < depth]
    if outside:
        raise ValueError(f"{name} has {outside[0]}; the tower's blocks are 0 to {depth - 1}")
    return nn.ModuleDict({str(i): Mixture(tower.width, config) for i in indices})


def _compare(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], top_k: int) -> None:
    again = "make the model with the config that the state was saved with"
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"the adapter state lacks {name}; {again}")
        if state[name].shape != shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)} in the adapter state, {tuple(shape)} here; {again}")
    for name in state:
        if name not in shapes:
            raise ValueError(f"the adapter state has {name}, which this model has no place for; {again}")
    if int(state["top_k"]) != top_k:
        raise ValueError(f"top_k is {int(state['top_k'])} in the adapter state, {top_k} here; {again}")

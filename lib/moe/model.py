"""MoE-Adapters around a frozen CLIP: mixtures in both towers, a router for each task (paper, Sec. 3.2 and 3.3).

Tasks, gates and counts are arguments and return values; the released code keeps them in module globals and in a text
file that the next run inherits.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor, nn

from lib.clip import towers
from lib.moe.config import MoEConfig
from lib.moe.mixture import Encoded, Mixture, Noise, Start, TaskOf, TowerMixtures
from lib.moe.router import Routing


class Prompts(NamedTuple):
    """Class prompts made ready for many passes: groups of similar length, each up to the first mixture."""

    tokens: Tensor  # of all prompts (C, L)
    rows: list[Tensor]  # which prompts are in each group (n,)
    starts: list[Start]


class MoECLIP(nn.Module):
    """A CLIP of open_clip, frozen and always in eval mode, with mixtures in its blocks.

    A new model's features equal CLIP's bit for bit. Tasks are numbered 0, 1, 2, ... in the order of add_task; task None
    is the frozen CLIP. Noise and dropout act in training mode only.
    """

    top_k: Tensor
    clip: open_clip.CLIP

    def __init__(self, clip: open_clip.CLIP, config: MoEConfig) -> None:
        super().__init__()
        towers.check(clip)
        self.config, self.clip = config, clip.requires_grad_(False).eval()
        image: Any = clip.visual
        self.image_adapters = TowerMixtures("image", image.transformer, config)
        self.text_adapters = TowerMixtures("text", clip.transformer, config)
        self.register_buffer("top_k", torch.tensor(config.top_k))  # no shape shows K, so a saved state must hold it
        self.to(clip.logit_scale.device)

    def train(self, mode: bool = True) -> "MoECLIP":
        """Sets the mode of the mixtures; CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        return self

    @property
    def num_tasks(self) -> int:
        """T, the number of tasks added so far."""
        return len(next(iter(self.adapters().values())).counts)

    def adapters(self) -> dict[str, Mixture]:
        """All mixtures by their names in the state dict, the image tower's first."""
        named: dict[str, Any] = {"image_adapters": self.image_adapters, "text_adapters": self.text_adapters}
        return {f"{name}.{block}": mixture for name, group in named.items() for block, mixture in group.items()}

    def add_task(self) -> int:
        """Adds a router to every mixture and freezes the earlier ones. Returns the task's number."""
        for mixture in self.adapters().values():
            mixture.add_task()
        return self.num_tasks - 1

    def encode_image(self, images: Tensor, task: TaskOf | None, noise: Noise = None, whole: bool = True) -> Encoded:
        """Encodes images (B, 3, H, W) with a task's routers; tasks (B,) name one for each image, in one pass.

        whole=False computes only the class token in the last block: faster, and equal up to rounding.
        """
        if task is None:
            return Encoded(self.clip.encode_image(images), {})
        self._check_task(task)
        start = self.image_adapters.start(towers.image_pass(self.clip, images, whole))
        return self.image_adapters.finish(start, task, noise)

    def early_tokens(self, images: Tensor) -> Tensor:
        """The class tokens (B, D) of images (B, 3, H, W) where the first mixture of the image tower reads them."""
        return self.image_adapters.start(towers.image_pass(self.clip, images)).early

    def encode_in_one_pass(self, images: Tensor, route: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Features (B, F) of images (B, 3, H, W), and the tasks (B,) whose routers they went by.

        route: names a task for each early token (B, D), or -1 for the frozen CLIP. What comes before the first mixture
        is computed once, for the selector, CLIP and all routers; with mixtures in the later blocks it is worth most.
        """
        start = self.image_adapters.start(towers.image_pass(self.clip, images))
        tasks = route(start.early)
        self._check_task(tasks[tasks != -1])
        if not len(tasks):
            return self.image_adapters.finish(start, None).features, tasks
        groups = (((tasks >= 0).nonzero()[:, 0], True), ((tasks < 0).nonzero()[:, 0], False))
        kept = [(rows, tasks[rows] if claimed else None) for rows, claimed in groups if len(rows)]
        parts = [self.image_adapters.finish(start.of(rows), task).features for rows, task in kept]
        return torch.cat(parts)[torch.cat([rows for rows, _ in kept]).argsort()], tasks

    def encode_text(self, tokens: Tensor | Prompts, task: int | None, noise: Noise = None) -> Encoded:
        """Encodes tokens (C, L), which share one start token, with a task's routers.

        Padding after the longest prompt is cut, and prompts from `prepare` are faster: both equal up to rounding. Task
        None is CLIP at its full context length.
        """
        if task is None:
            return Encoded(self.clip.encode_text(tokens.tokens if isinstance(tokens, Prompts) else tokens), {})
        self._check_task(task)
        prompts = self.prepare(tokens, whole=True) if isinstance(tokens, Tensor) else tokens
        parts = []
        for rows, start in zip(prompts.rows, prompts.starts, strict=True):
            draws = None if noise is None else {block: drawn[rows] for block, drawn in noise.items()}
            parts.append(self.text_adapters.finish(start, task, draws))
        return parts[0] if len(parts) == 1 else _join(parts, torch.cat(prompts.rows).argsort())

    @torch.no_grad()
    def prepare(self, tokens: Tensor, whole: bool = False) -> Prompts:
        """Groups tokens (C, L) by length, and computes once what no task changes.

        whole=True makes one group and computes all its tokens in the last block.
        """
        worth = towers.WORTH[self.top_k.device.type]
        rows = [torch.arange(len(tokens))] if whole else towers.by_length(tokens, worth)
        starts = [self.text_adapters.start(towers.text_pass(self.clip, tokens[group], whole)) for group in rows]
        return Prompts(tokens, rows, starts)

    def _check_task(self, task: TaskOf) -> None:
        numbers = task.tolist() if isinstance(task, Tensor) else [task]
        if wrong := [number for number in numbers if not 0 <= number < self.num_tasks]:
            allowed = f"0 to {self.num_tasks - 1}" if self.num_tasks else "none"
            raise ValueError(f"there is no task {wrong[0]}; tasks so far: {allowed}. add_task() makes the next one")

    def trainable_parameters(self, task: int) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that a task trains: all experts, and the task's own routers."""
        self._check_task(task)
        router = self.config.router_of(task)
        ours = [(name, p) for name, p in self.named_parameters() if not name.startswith("clip.")]
        return [(name, p) for name, p in ours if ".routers." not in name or f".routers.{router}." in name]

    def add_counts(self, task: int, image: Mapping[int, Routing], text: Mapping[int, Routing]) -> None:
        """Counts the routings of a training forward, by which `freeze` chooses. Call it after every one."""
        mixtures = self.adapters()
        for tower, routings in (("image", image), ("text", text)):
            for block, routing in routings.items():
                mixtures[f"{tower}_adapters.{block}"].add_counts(task, routing)

    def freeze(self, task: int) -> None:
        """Activate-freeze in every block, after the last training step of a task."""
        for mixture in self.adapters().values() if self.config.freeze else ():
            mixture.freeze(task)

    def mask_frozen_gradients(self) -> None:
        """Call it between backward and the optimiser's step: frozen experts then stay the same bit for bit."""
        for mixture in self.adapters().values():
            mixture.mask_frozen_gradients()

    def settled(self, encoded: Encoded, tower: str) -> Tensor:
        """Whether all experts that a sample of the "image" or "text" tower went to are frozen (B,).

        Such a sample's features never change again, unless its routers do.
        """
        settled = torch.ones(len(encoded.features), dtype=torch.bool, device=encoded.features.device)
        for block, routing in encoded.routings.items():
            settled &= self.adapters()[f"{tower}_adapters.{block}"].frozen[routing.experts].all(dim=1)
        return settled

    def adapter_state(self) -> dict[str, Tensor]:
        """The part of the state dict that is not CLIP's: experts, routers, frozen, counts, mass and top_k."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("clip.")}

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads an adapter_state with all its tasks. If it does not fit, raises ValueError and changes nothing."""
        tasks = max((len(v) for name, v in state.items() if name.endswith(".counts") and v.ndim), default=0)
        sizes = {name: mixture.sizes(state, name, tasks) for name, mixture in self.adapters().items()}
        self._check_state(state, sizes)
        for name, mixture in self.adapters().items():
            mixture.renew(sizes[name])
        self.load_state_dict(dict(state), strict=False)

    def _check_state(self, state: Mapping[str, Tensor], sizes: Mapping[str, list[int]]) -> None:
        here: dict[str, Any] = {"top_k": self.config.top_k}
        for name, mixture in self.adapters().items():
            here |= {f"{name}.{key}": shape for key, shape in mixture.shapes(sizes[name]).items()}
        there = {name: tensor.tolist() if name == "top_k" else tuple(tensor.shape) for name, tensor in state.items()}
        for name in here | there:
            given, wanted = (shapes.get(name, "missing") for shapes in (there, here))
            if given != wanted:
                advice = "make the model with the config that the state was saved with"
                raise ValueError(f"{name} is {given} in the adapter state and {wanted} in this model; {advice}")


def _join(parts: list[Encoded], order: Tensor) -> Encoded:
    """Joins groups of prompts, then puts the prompts in the order (C,)."""
    order = order.to(parts[0].features.device)
    blocks = parts[0].routings
    routings = {block: Routing.join([part.routings[block] for part in parts], order) for block in blocks}
    return Encoded(torch.cat([part.features for part in parts])[order], routings)

"""MoRAM: every linear map of both towers has a memory of rank-one experts that route themselves (ICML 2026, X-TAIL).

    p_i = key_i . z,   n_i = p_i / ||p||,   w = softmax of the K largest n_i / tau, 0 elsewhere
    map(z) = W z + bias + sum over i of w_i p_i value_i;   at test time w_i counts only where n_i >= delta

A task adds R experts to each memory and trains them; the earlier ones are frozen. Every token goes its own way. There
is one pass, no selector and no way back to CLIP: unlearned pictures go through all memories too. The memories sit at
the queries, keys, values and outputs of attention and at both maps of the MLP. Besides the cross entropy over the
task's classes there is one from texts to the pictures of a batch: a sum over pictures, divided by the number of classes
so far.

Appending experts changes the answers on earlier tasks at once: they share the norm, the K largest and the softmax.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.towers import Block, Pass, image_pass, text_pass
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Method, Predictions, joined, under
from lib.methods.scoring import classify, cross_entropy, encode_images, logits
from lib.settings import Positive, Rate, Share

MAPS = ("query", "key", "value", "out", "up", "down")  # of a block: attention's four, the MLP's two


class Memory(nn.Module):
    """The experts beside one linear map: keys (R, D_in) and values (R, D_out) of each task."""

    def __init__(self, chosen: int, tau: float, delta: float) -> None:
        super().__init__()
        self.chosen, self.tau, self.delta = chosen, tau, delta
        self.keys, self.values = nn.ParameterList(), nn.ParameterList()

    def append(self, keys: Tensor, values: Tensor) -> list[nn.Parameter]:
        """Freezes all experts and adds new ones, which it returns."""
        self.requires_grad_(False)
        new = [nn.Parameter(keys), nn.Parameter(values)]
        self.keys.append(new[0])
        self.values.append(new[1])
        return new

    def forward(self, z: Tensor) -> Tensor:
        """What is added to the map's output (..., D_out) on tokens (..., D_in)."""
        if not len(self.keys):
            return z.new_zeros(())
        projections = z @ torch.cat([*self.keys]).T  # (..., M)
        return (self.gates(projections) * projections) @ torch.cat([*self.values])

    def gates(self, projections: Tensor) -> Tensor:
        """w (..., M) of the experts, by their projections p (..., M); zero outside the K largest, and below delta."""
        scores = F.normalize(projections, dim=-1)
        largest, chosen = scores.topk(min(self.chosen, scores.shape[-1]), dim=-1)
        weights = (largest / self.tau).softmax(dim=-1)
        if not self.training:
            weights = weights * (largest >= self.delta)
        return torch.zeros_like(scores).scatter(-1, chosen, weights)


class MoRAM(Method):
    """Memories in all blocks; `memories` holds them by tower, block and map."""

    @dataclass(frozen=True)
    class Settings(Method.Settings):
        """rank: experts that a task adds to a memory. chosen: K. tau, delta: of the routing."""

        lr: Rate
        rank: Positive
        chosen: Positive
        tau: Rate
        delta: Share

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        s = self.settings
        clip: Any = context.backbone.model
        clip.requires_grad_(False)
        self.towers = {"image": clip.visual.transformer.resblocks, "text": clip.transformer.resblocks}
        blocks = [f"{tower}_{number}" for tower, stack in self.towers.items() for number in range(len(stack))]
        names = [f"{block}_{at}" for block in blocks for at in MAPS]
        self.memories = nn.ModuleDict({name: Memory(s.chosen, s.tau, s.delta) for name in names})
        self.memories.to(context.backbone.device).eval()
        self.classes_so_far = torch.tensor(0)

    saved = ("classes_so_far",)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Adds experts whose output is zero, and trains them."""
        self.prompts = self.tokens(lesson.task)
        self.classes_so_far = self.classes_so_far + len(lesson.task.classes)
        trained = []
        for name, memory in self.memories.items():
            width, out = self._widths(name)
            keys = torch.empty(self.settings.rank, width, device=self.backbone.device)
            nn.init.uniform_(keys, -(width**-0.5), width**-0.5)  # kaiming-uniform with a = sqrt(5)
            trained += memory.append(keys, keys.new_zeros(self.settings.rank, out))  # type: ignore[operator]
        self.memories.train()
        return trained

    def _widths(self, name: str) -> tuple[int, int]:
        """D_in and D_out of a memory."""
        tower, block, at = name.split("_")
        mlp = self.towers[tower][int(block)].mlp
        width, hidden = mlp.c_fc.in_features, mlp.c_fc.out_features
        return {"up": (width, hidden), "down": (hidden, width)}.get(at, (width, width))

    def features(self, tower: str, start: Pass) -> Tensor:
        """Features (B, F) of a pass through the image or text tower with its memories."""
        x = start.x
        for number, block in enumerate(start.blocks):
            x = remembered(block, {at: self.memories[f"{tower}_{number}_{at}"] for at in MAPS}, x)
        return start.pool(x)

    def image(self, pixels: Tensor) -> Tensor:
        """Image features (B, F) of pixels (B, 3, H, W)."""
        return self.features("image", image_pass(self.backbone.model, pixels))

    def text(self, tokens: Tensor) -> Tensor:
        """Text features (C, F) of tokens (C, L)."""
        return self.features("text", text_pass(self.backbone.model, tokens))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, and that of texts over the batch."""
        image, text, scale = self.image(images), self.text(self.prompts), self.backbone.model.logit_scale
        to_pictures = logits(text[labels], image, scale)  # (B, B)
        found = F.cross_entropy(to_pictures, torch.arange(len(labels)).to(labels), reduction="sum")
        named = cross_entropy(image, text, labels, scale, self.context.train.smoothing)
        return named + found / int(self.classes_so_far)

    def end_task(self, lesson: Lesson) -> None:
        """From now on weak experts are cut off."""
        self.memories.eval()

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The nearest class name, after one pass for each tower."""
        every = torch.arange(len(task.test))
        image = self.encode_once(0, task, every, lambda x: encode_images(self.image, self.backbone, x))
        return Predictions({"sample": classify(self, 0, image, self.text, task)}, {})

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.memories.named_parameters())

    def state(self) -> dict[str, Tensor]:
        return super().state() | joined("memories.", self.memories.state_dict())

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        held = under("memories.", state)
        for name, memory in self.memories.items():
            memory.keys, memory.values = nn.ParameterList(), nn.ParameterList()
            for task in range(len(under(f"{name}.keys.", held))):
                parts = (held[f"{name}.{part}.{task}"].to(self.backbone.device) for part in ("keys", "values"))
                memory.append(*parts)  # type: ignore[operator]


def remembered(block: Block, memories: dict[str, nn.Module], x: Tensor) -> Tensor:
    """A frozen block with memories at its maps: (B, L, D) to (B, L, D), or to the tokens that it computes."""
    layers: Any = block.layers
    attention, mask, z = layers.attn, block.mask, layers.ln_1(x)
    if block.read is not None:
        x, asking = (each.take_along_dim(block.read[..., None], dim=1) for each in (x, z))
        mask = mask if mask is None else mask[block.read][:, None]  # (B, 1, N, L)
    else:
        asking = z
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    parts = []
    for at, weight, bias, tokens in zip(MAPS, weights, biases, (asking, z, z), strict=False):
        part = F.linear(tokens, weight, bias) + memories[at](tokens)
        parts.append(part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2))  # (B, heads, L, D/heads)
    mixed = F.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(1, 2).flatten(2)
    x = x + layers.ls_1(attention.out_proj(mixed) + memories["out"](mixed))
    z = layers.ln_2(x)
    hidden = layers.mlp.gelu(layers.mlp.c_fc(z) + memories["up"](z))
    return x + layers.ls_2(layers.mlp.c_proj(hidden) + memories["down"](hidden))

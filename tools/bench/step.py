"""A training step of the mixture at ViT-B/16, in the plain way (tools/bench/plain.py) and in ours: its time and its memory.

Weights are random: they do not change the time. Nothing is downloaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib.clip import compute
from lib.methods.base import cross_entropy
from lib.moe.model import Encoded, MoECLIP, MoEConfig
from lib.study.params import Compute
from tools.bench import operations as counting
from tools.bench import plain
from tools.bench.memory import most

MODEL, PICTURES = "ViT-B-16-quickgelu", 8
PARTS = ("image", "text", "optimiser")
USUAL = Compute(threads=0)
RECOMPUTE = replace(USUAL, recompute=True)


@dataclass(frozen=True)
class Way:
    """A way to take a training step: its two encoders and its optimiser."""

    image: Callable[[], Encoded]
    text: Callable[[], Encoded]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Bench:
    """What all measurements share: a mixture with one task, pictures (B, 3, H, W), labels (B,), prompts (C, 77)."""

    model: MoECLIP
    images: Tensor
    labels: Tensor
    tokens: Tensor

    def ways(self) -> dict[str, Way]:
        """The plain way and ours."""
        parameters = [p for _, p in self.model.trainable_parameters(0)]
        prompts = self.model.prepare(self.tokens)
        loop = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, foreach=False, fused=False)
        return {
            "plain": Way(
                lambda: plain.encode_image(self.model, self.images, 0),
                lambda: plain.encode_text(self.model, self.tokens, 0),
                loop,
            ),
            "ours": Way(
                lambda: self.model.encode_image(self.images, 0, whole=False),
                lambda: self.model.encode_text(prompts, 0),
                torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True),
            ),
        }

    def step(self, way: Way) -> dict[str, float]:
        """Takes a step and returns the seconds of its parts; each tower's are forward and backward."""
        model, clock = self.model, [time.perf_counter()]
        image = way.image()
        clock.append(time.perf_counter())
        text = way.text()
        clock.append(time.perf_counter())
        shown, named = (each.features.detach().requires_grad_() for each in (image, text))
        cross_entropy(shown, named, self.labels, model.clip.logit_scale, 0.2).backward()
        torch.autograd.backward(image.features, shown.grad)
        clock.append(time.perf_counter())
        torch.autograd.backward(text.features, named.grad)
        clock.append(time.perf_counter())
        model.add_counts(0, image.routings, text.routings)
        model.mask_frozen_gradients()
        way.optimizer.step()
        way.optimizer.zero_grad()
        clock.append(time.perf_counter())
        image_on, text_on, image_back, text_back, rest = np.diff(clock)
        return {"image": image_on + image_back, "text": text_on + text_back, "optimiser": rest}


def prepared(classes: int, pictures: int = PICTURES) -> Bench:
    """A mixture of 22 experts, 2 of them chosen, around ViT-B/16 at random weights."""
    torch.manual_seed(0)
    clip: Any = open_clip.create_model(MODEL, pretrained=None)
    model = MoECLIP(clip, MoEConfig(experts=22, top_k=2))
    model.add_task()
    names = counting.prompts(classes)
    tokens = open_clip.get_tokenizer(MODEL)(names)
    size = clip.visual.image_size[0]
    images = torch.randn(pictures, 3, size, size)
    return Bench(model.train(), images, torch.arange(pictures) % classes, tokens)


def steps(bench: Bench, repeats: int) -> dict[str, Any]:
    """Seconds of the parts of a step in both ways, taken in turn, and their ratios; operations, and memory in MB.

    Steps in which operations are counted warm up each way. Memory is watched in the first of the repeats.
    """
    operations = {"plain": plain_operations(bench), "ours": counted(bench, "ours")}
    ways, peaks = bench.ways(), {}  # their optimisers hold nothing yet
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}

    def take(name: str) -> None:
        found[name].append(bench.step(ways[name]))

    for name in ways:
        peaks[name] = most(partial(take, name))
    for _ in range(repeats - 1):
        for name in ways:
            take(name)
    fresh = bench.ways()["ours"]
    peaks["recompute"] = most(lambda: whole_step(whole_loss(bench, fresh), fresh, RECOMPUTE))
    totals = {name: np.array([sum(parts.values()) for parts in taken]) for name, taken in found.items()}
    return {
        "seconds": {
            name: {part: round(float(np.median([t[part] for t in taken])), 3) for part in PARTS}
            | {"step": round(float(np.median(totals[name])), 3)}
            for name, taken in found.items()
        },
        "operations": operations,
        "ratio": spread(totals["plain"] / totals["ours"]),
        "peak_memory_mb": {name: round(peak) for name, peak in peaks.items()},
    }


def counted(bench: Bench, way: str) -> int:
    """The operations of a step."""
    with FlopCounterMode(display=False) as counter:
        bench.step(bench.ways()[way])
    return counter.get_total_flops()


def plain_operations(bench: Bench) -> int:
    """Those of a plain step, told from two with few prompts: one with all is long, and each prompt adds the same."""
    few, twice = (counted(replace(bench, tokens=bench.tokens[:count]), "plain") for count in (PICTURES, 2 * PICTURES))
    return few + (twice - few) * (len(bench.tokens) - PICTURES) // PICTURES


def whole_loss(bench: Bench, way: Way) -> Callable[[], Tensor]:
    """The loss of a step, both towers in one, as options are measured on it."""

    def loss() -> Tensor:
        image, text = way.image(), way.text()
        return cross_entropy(image.features, text.features, bench.labels, bench.model.clip.logit_scale, 0.2)

    return loss


def whole_step(loss: Callable[[], Tensor], way: Way, how: Compute) -> float:
    """Seconds of a step with this loss, under the settings of params `compute`."""
    began = time.perf_counter()
    with compute.training(how, torch.device("cpu")):
        value = loss()
    value.backward()
    way.optimizer.step()
    way.optimizer.zero_grad()
    return time.perf_counter() - began


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, least and largest."""
    return {
        name: round(float(of(values)), 2)
        for name, of in (("median", np.median), ("least", np.min), ("largest", np.max))
    }

"""A training step of the mixture at ViT-B/16, the plain way (plain_mixture.py) and ours: time, memory, operations.

Weights are random, which does not change the time. Nothing is downloaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
from torch import Tensor

from lib.methods.scoring import cross_entropy
from lib.moe import Encoded, MoECLIP, MoEConfig
from tools.bench import plain_mixture
from tools.bench.evaluation import MODEL, operations
from tools.bench.meters import most
from tools.datasets.catalogue import catalogue

PICTURES = 8
PARTS = ("image", "text", "optimiser", "step")  # of the seconds; step: all of it
NAMED = {100: "aircraft", 397: "sun397"}  # data sets by their number of classes


@dataclass(frozen=True)
class Way:
    """A way to take a training step: its two encoders and its optimiser."""

    image: Callable[[], Encoded]
    text: Callable[[], Encoded]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Bench:
    """What all measurements share: a mixture with one task, images (B, 3, H, W), labels (B,), prompts (C, L)."""

    model: MoECLIP
    images: Tensor
    labels: Tensor
    tokens: Tensor

    def ways(self) -> dict[str, Way]:
        """The plain way and ours, with optimisers that hold nothing yet."""
        parameters = [p for _, p in self.model.trainable_parameters(0)]
        prompts = self.model.prepare(self.tokens)
        return {
            "plain": Way(
                lambda: plain_mixture.encode_image(self.model, self.images, 0),
                lambda: plain_mixture.encode_text(self.model, self.tokens, 0),
                torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, foreach=False, fused=False),
            ),
            "ours": Way(
                lambda: self.model.encode_image(self.images, 0, whole=False),
                lambda: self.model.encode_text(prompts, 0),
                torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True),
            ),
        }

    def step(self, way: Way, bf16: bool = False) -> dict[str, float]:
        """Takes a step and returns the seconds of its PARTS; a tower's are forward and backward."""
        model, clock = self.model, [time.perf_counter()]

        def tick() -> None:
            clock.append(time.perf_counter())

        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            image = way.image()
            tick()
            text = way.text()
            tick()
        shown, named = (encoded.features.detach().requires_grad_() for encoded in (image, text))
        cross_entropy(shown, named, self.labels, model.clip.logit_scale, 0.2).backward()
        torch.autograd.backward(image.features, shown.grad)
        tick()
        torch.autograd.backward(text.features, named.grad)
        tick()
        model.add_counts(0, image.routings, text.routings)
        model.mask_frozen_gradients()
        way.optimizer.step()
        way.optimizer.zero_grad()
        tick()
        image_forward, text_forward, image_back, text_back, rest = np.diff(clock)
        parts = (image_forward + image_back, text_forward + text_back, rest, clock[-1] - clock[0])
        return dict(zip(PARTS, parts, strict=True))


def prepared(classes: int) -> Bench:
    """A mixture of 22 experts, 2 of them chosen, around ViT-B/16 at random weights."""
    torch.manual_seed(0)
    clip: Any = open_clip.create_model(MODEL, pretrained=None)
    model = MoECLIP(clip, MoEConfig(experts=22, top_k=2))
    model.add_task()
    entry = catalogue(NAMED[classes])
    tokens = open_clip.get_tokenizer(MODEL)([entry.templates[0].format(name) for name in entry.names])
    images = torch.randn(PICTURES, 3, *clip.visual.image_size)
    return Bench(model.train(), images, torch.arange(PICTURES) % classes, tokens)


def steps(bench: Bench, repeats: int) -> dict[str, Any]:
    """Seconds of the parts of a step in both ways, taken in turn, and their ratios; operations, and memory in MB.

    The steps whose operations are counted warm up each way. Memory is watched in the first of the repeats.
    """
    counts = {"plain": plain_operations(bench), "ours": step_operations(bench, "ours")}
    ways, peaks = bench.ways(), {}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, way in ways.items():
            if repeat:
                taken[name].append(bench.step(way))
            else:
                peaks[name] = round(most(lambda name=name, way=way: taken[name].append(bench.step(way))))
    seconds = {name: pd.DataFrame(rows) for name, rows in taken.items()}
    return {
        "seconds": {name: frame.median().round(3).to_dict() for name, frame in seconds.items()},
        "operations": counts,
        "ratio": spread(pd.Series(seconds["plain"]["step"] / seconds["ours"]["step"])),
        "peak_memory_mb": peaks,
    }


def measure(classes: int, repeats: int) -> dict[str, Any]:
    """`steps` with so many classes."""
    return steps(prepared(classes), repeats)


def step_operations(bench: Bench, name: str) -> int:
    """The operations of one step; making the prompts ready, once a task, is no part of it."""
    way = bench.ways()[name]
    return operations(lambda: bench.step(way))


def plain_operations(bench: Bench) -> int:
    """The operations of a plain step, computed from two short steps: every prompt adds the same."""
    few, twice = (
        step_operations(replace(bench, tokens=bench.tokens[:count]), "plain") for count in (PICTURES, 2 * PICTURES)
    )
    return few + (twice - few) * (len(bench.tokens) - PICTURES) // PICTURES


def spread(values: pd.Series) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": round(values.median(), 2), "least": round(values.min(), 2), "largest": round(values.max(), 2)}

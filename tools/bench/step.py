"""A training step of the mixture at ViT-B/16, the plain way (plain_mixture.py) and ours: time, memory, operations.

Weights are random, which does not change the time. Nothing is downloaded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from torch import Tensor

from lib.methods.scoring import cross_entropy
from lib.moe import Encoded, MoECLIP, MoEConfig
from tools.bench import plain_mixture
from tools.bench.evaluation import MODEL
from tools.bench.meters import most, operations, seconds
from tools.datasets.catalogue import catalogue

PICTURES = 8
NAMED = {100: "aircraft", 397: "sun397"}  # data sets by their number of classes


class Bench(NamedTuple):
    """What is measured: a mixture with one task, and a step's images (B, 3, H, W) and prompts (C, L)."""

    model: MoECLIP
    images: Tensor
    tokens: Tensor


def prepared(classes: int) -> Bench:
    """A mixture of 22 experts, 2 of them chosen, around ViT-B/16 at random weights."""
    torch.manual_seed(0)
    clip: Any = open_clip.create_model(MODEL, pretrained=None)
    model = MoECLIP(clip, MoEConfig(experts=22, top_k=2))
    model.add_task()
    entry = catalogue(NAMED[classes])
    tokens = open_clip.get_tokenizer(MODEL)([entry.templates[0].format(name) for name in entry.names])
    return Bench(model.train(), torch.randn(PICTURES, 3, *clip.visual.image_size), tokens)


def steps(bench: Bench) -> dict[str, Callable[..., None]]:
    """The plain step and ours, as functions; their optimisers hold nothing yet."""
    model, images, tokens = bench
    prompts, labels = model.prepare(tokens), torch.arange(len(images)) % len(tokens)
    adamw = partial(torch.optim.AdamW, [p for _, p in model.trainable_parameters(0)], lr=1e-3, weight_decay=0.0)

    def plain() -> tuple[Encoded, Encoded]:
        return plain_mixture.encode_image(model, images, 0), plain_mixture.encode_text(model, tokens, 0)

    def ours() -> tuple[Encoded, Encoded]:
        return model.encode_image(images, 0, whole=False), model.encode_text(prompts, 0)

    def step(encode: Callable, optimizer: torch.optim.Optimizer, bf16: bool = False) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            image, text = encode()
        cross_entropy(image.features, text.features, labels, model.clip.logit_scale, 0.2).backward()
        model.add_counts(0, image.routings, text.routings)
        model.mask_frozen_gradients()
        optimizer.step()
        optimizer.zero_grad()

    looped, fused = adamw(foreach=False, fused=False), adamw(fused=True)
    return {"plain": partial(step, plain, looped), "ours": partial(step, ours, fused)}


def compared(bench: Bench, repeats: int) -> dict[str, Any]:
    """Seconds, operations and peak memory (MB) of both steps, and the ratio of their seconds, plain over ours.

    The steps whose memory and operations are counted warm up. Then both are timed in turn.
    """
    both, counts, peaks = steps(bench), {}, {}
    for name, step in both.items():
        peaks[name] = round(most(lambda name=name, step=step: counts.update({name: operations(step)})))
    taken = [[seconds(step) for step in both.values()] for _ in range(repeats)]
    return {
        "seconds": dict(zip(both, np.median(taken, axis=0).round(3).tolist(), strict=True)),
        "operations": counts,
        "ratio": spread([plain / ours for plain, ours in taken]),
        "peak_memory_mb": peaks,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {name: round(float(f(values)), 2) for name, f in (("median", np.median), ("least", min), ("largest", max))}

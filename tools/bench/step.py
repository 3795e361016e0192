"""A training step of the mixture at ViT-B/16, the plain way and ours (lib.moe.model): time, memory, operations.

The plain way is the released code's: a Python loop runs expert after expert, each on a copy of the samples that chose
it; every block computes every token; prompts are padded to CLIP's whole context; nothing is kept from one step to the
next. Weights, routers and draws are those of a MoECLIP, so both ways must agree in values and gradients. Weights are
random, which does not change the time. Nothing is downloaded.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.methods.scoring import cross_entropy
from lib.moe import Encoded, Mixture, MoECLIP, MoEConfig, Routing
from tools.bench.evaluation import MODEL
from tools.bench.meters import most, operations, seconds
from tools.datasets.catalogue import catalogue

PICTURES = 8
NAMED = {100: "aircraft", 397: "sun397"}  # data sets by their number of classes
Pick = Callable[[Tensor], Tensor]  # from tokens (B, L, D), the one that the router reads (B, D)
Draws = Mapping[int, Tensor] | None  # the noise (B, E) of some blocks


def mixture(adapter: Mixture, x: Tensor, x0: Tensor, task: int, noise: Tensor | None) -> tuple[Tensor, Routing]:
    """The sum (B, L, D) of gate * expert(x) over the chosen experts, for x (B, L, D) routed by x0 (B, D)."""
    routing = adapter.routers[adapter.config.router_of(task)](x0, noise)
    experts, total = adapter.experts, torch.zeros_like(x)
    for e in range(adapter.config.experts):
        rows = routing.gates[:, e].nonzero().flatten()
        given = x[rows]  # (n, L, D): a sample is copied for each of its K experts
        hidden = experts.dropout(F.relu(given @ experts.down[e] + experts.down_bias[e]))
        made = (hidden @ experts.up[e] + experts.up_bias[e]) * experts.scale
        total = total.index_add(0, rows, made * routing.gates[rows, e][:, None, None])
    return total, routing


def encode_image(model: MoECLIP, images: Tensor, task: int, noise: Draws = None) -> Encoded:
    """The same as MoECLIP.encode_image for images (B, 3, H, W)."""
    visual: Any = model.clip.visual
    blocks, x = visual.transformer.resblocks, visual._embeds(images)
    x, routings = _through(blocks, model.image_adapters, x, None, lambda x: x[:, 0], task, noise)
    return Encoded(visual._pool(x)[0] @ visual.proj, routings)


def encode_text(model: MoECLIP, tokens: Tensor, task: int, noise: Draws = None) -> Encoded:
    """The same as MoECLIP.encode_text for tokens (C, L) of the whole context."""
    clip: Any = model.clip
    ends, every = tokens.argmax(dim=1), torch.arange(len(tokens))
    read = torch.zeros_like(ends) if model.config.text_router_token == "start" else ends
    blocks, x = clip.transformer.resblocks, clip.token_embedding(tokens) + clip.positional_embedding
    x, routings = _through(blocks, model.text_adapters, x, clip.attn_mask, lambda x: x[every, read], task, noise)
    return Encoded(clip.ln_final(x)[every, ends] @ clip.text_projection, routings)


def _through(
    blocks: Any, adapters: nn.ModuleDict, x: Tensor, mask: Tensor | None, pick: Pick, task: int, noise: Draws
) -> tuple[Tensor, dict[int, Routing]]:
    routings: dict[int, Routing] = {}
    for index, block in enumerate(blocks):
        x = x + block.ls_1(block.attention(q_x=block.ln_1(x), attn_mask=mask))
        added: Tensor | float = 0.0
        if str(index) in adapters:
            adapter: Any = adapters[str(index)]
            added, routings[index] = mixture(adapter, x, pick(x), task, (noise or {}).get(index))
        x = x + block.ls_2(block.mlp(block.ln_2(x))) + added
    return x, routings


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
        return encode_image(model, images, 0), encode_text(model, tokens, 0)

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

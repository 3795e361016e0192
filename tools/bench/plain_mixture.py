"""The mixture the plain way, as the released code computes it: to compare numbers and time with lib.moe.model.

A Python loop runs expert after expert, each on a copy of the samples that chose it; every block computes every token;
prompts are padded to CLIP's whole context; nothing is kept from one step to the next. Weights, routers and draws are
those of a MoECLIP, so both ways must agree in values and gradients.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe import Encoded, Mixture, MoECLIP, Routing

Pick = Callable[[Tensor], Tensor]  # from tokens (B, L, D), the one that the router reads (B, D)
Draws = Mapping[int, Tensor] | None  # the noise (B, E) of some blocks


def mixture(adapter: Mixture, x: Tensor, x0: Tensor, task: int, noise: Tensor | None) -> tuple[Tensor, Routing]:
    """The sum (B, L, D) of gate * expert(x) over the chosen experts, for x (B, L, D) routed by x0 (B, D)."""
    routing = adapter.routers[adapter.router_of(task)](x0, noise)
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

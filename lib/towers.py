"""CLIP's two towers as loops over its blocks, with the block's work passed in (paper, Sec. 3.2).

open_clip's modules are used as they are, from outside. Text is cut to the longest prompt in use, which the
causal mask makes exact; the released code pads every prompt to 77 tokens.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor

Block = Callable[[int, ResidualAttentionBlock, Tensor, Tensor | None], Tensor]


def plain(index: int, block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """What block number `index` does in CLIP itself: (B, L, D) to (B, L, D)."""
    return block(x, attn_mask=mask)


def image_tower(clip: open_clip.CLIP, images: Tensor, work: Block = plain) -> Tensor:
    """Features (B, F), not normalised, of images (B, 3, H, W)."""
    visual: Any = clip.visual
    x = visual._embeds(images)  # (B, L, D)
    for index, block in enumerate(visual.transformer.resblocks):
        x = work(index, block, x, None)
    return visual._pool(x)[0] @ visual.proj  # (B, F)


def text_tower(clip: open_clip.CLIP, tokens: Tensor, work: Block = plain) -> Tensor:
    """Features (C, F), not normalised, of tokens (C, L) with any amount of padding."""
    text: Any = clip
    mask, places = text.attn_mask, text.positional_embedding
    tokens = cut_padding(tokens).to(places.device)  # cut before it moves: no waiting for the GPU
    length, kind = tokens.shape[1], text.transformer.get_cast_dtype()
    x = text.token_embedding(tokens).to(kind) + places[:length].to(kind)  # (C, L, D)
    for index, block in enumerate(text.transformer.resblocks):
        x = work(index, block, x, mask[:length, :length])
    pooled = text_global_pool(text.ln_final(x), tokens, text.text_pool_type)  # (C, D)
    return pooled @ text.text_projection  # (C, F)


def cut_padding(tokens: Tensor) -> Tensor:
    """Tokens (C, L) cut after the last end token; it is the largest token of each prompt."""
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]


def check(clip: torch.nn.Module) -> None:
    """Raises ValueError, saying what is in the way, unless both towers are plain open_clip transformers."""
    if not isinstance(clip, open_clip.CLIP):
        _refuse(f"the model is a {type(clip).__name__}, not open_clip's CLIP")
    text: Any = clip
    visual: Any = text.visual
    if not isinstance(visual, VisionTransformer):
        _refuse(f"the image tower is a {type(visual).__name__}, not a VisionTransformer")
    if visual.output_tokens or visual.proj is None:
        _refuse("the image tower returns more or less than projected features (output_tokens, proj)")
    if text.attn_mask is None or text.text_pool_type != "argmax":
        _refuse(
            f"the text tower is not causal with pooling at the end token (pool_type {text.text_pool_type})"
        )
    if not isinstance(text.text_projection, torch.nn.Parameter):
        _refuse("the text tower's projection is not a matrix")
    for name, tower in (("image", visual.transformer), ("text", text.transformer)):
        if not tower.batch_first:
            _refuse(f"the {name} tower was built with batch_first=False")
        for index, block in enumerate(tower.resblocks):
            if type(block) is not ResidualAttentionBlock:
                kind = type(block).__name__
                _refuse(f"block {index} of the {name} tower is a {kind}, not a ResidualAttentionBlock")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"{reason}; use one of open_clip's plain ViT models, such as ViT-B-16-quickgelu")

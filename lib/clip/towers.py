"""CLIP's two towers as loops over its blocks, with the block's work passed in (paper, Sec. 3.2).

open_clip's modules are used as they are, from outside. What nothing reads is not computed: text is cut to the longest
prompt in use, which the causal mask makes exact (the released code pads every prompt to 77 tokens), and the last
block works on the tokens that are read.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

# Tokens that another group of prompts must save to be worth its launches; a GPU would rather work than launch
WORTH = {"cpu": 512, "cuda": 1 << 14}
Block = Callable[[int, ResidualAttentionBlock, Tensor, Tensor | None, Tensor | None], Tensor]


def plain(index: int, block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None, read: Tensor | None) -> Tensor:
    """What block number `index` does in CLIP itself: (B, L, D) to (B, L, D), or to (B, N, D) at N places to read."""
    if read is None:
        return block(x, attn_mask=mask)
    x = attend(block, x, mask, read)
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def attend(block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None, read: Tensor | None = None) -> Tensor:
    """x (B, L, D) after a block's attention, or its tokens (B, N, D) at places `read` (B, N) alone."""
    seen = block.ln_1(x)
    if read is None:
        return x + block.ls_1(block.attention(q_x=seen, attn_mask=mask))
    if mask is not None:  # a mask of its own for each sample and head
        mask = mask[read].repeat_interleave(block.attn.num_heads, dim=0)  # (B*heads, N, L)
    return at(x, read) + block.ls_1(block.attention(at(seen, read), seen, seen, mask))


def at(x: Tensor, places: Tensor) -> Tensor:
    """Tokens (B, N, D) of x (B, L, D) at places (B, N)."""
    return x.gather(1, places.unsqueeze(2).expand(-1, -1, x.shape[2]))


def image_tower(clip: open_clip.CLIP, images: Tensor, work: Block = plain, whole: bool = False) -> Tensor:
    """Features (B, F), not normalised, of images (B, 3, H, W).

    Of the last block's tokens only the class token is read, so only it is computed there; `whole` computes them all, as
    open_clip does: then the features are CLIP's bit for bit, else up to rounding.
    """
    visual: Any = clip.visual
    x = visual._embeds(images)  # (B, L, D)
    blocks = visual.transformer.resblocks
    short = not whole and visual.attn_pool is None and visual.pool_type == "tok"
    class_token = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
    for index, block in enumerate(blocks):
        x = work(index, block, x, None, class_token if short and index == len(blocks) - 1 else None)
    return visual._pool(x)[0] @ visual.proj  # (B, F)


def text_tower(clip: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Features (C, F), not normalised, of tokens (C, L) with any amount of padding; the short go before the long."""
    groups = by_length(tokens, WORTH[clip.logit_scale.device.type])
    if len(groups) == 1:
        return text_group(clip, tokens)
    parts = [text_group(clip, tokens[rows]) for rows in groups]
    return torch.cat(parts)[torch.cat(groups).argsort().to(parts[0].device)]


def text_group(clip: open_clip.CLIP, tokens: Tensor, work: Block = plain, whole: bool = False) -> Tensor:
    """Features (C, F), not normalised, of tokens (C, L), all cut to the longest.

    The last block computes only the start token, by which a prompt may be routed, and the end token, which is read;
    `whole`: all tokens.
    """
    text: Any = clip
    mask, places = text.attn_mask, text.positional_embedding
    tokens = cut_padding(tokens).to(places.device)  # cut before it moves: no waiting for the GPU
    length, kind = tokens.shape[1], text.transformer.get_cast_dtype()
    x = text.token_embedding(tokens).to(kind) + places[:length].to(kind)  # (C, L, D)
    ends = tokens.argmax(dim=1, keepdim=True)  # (C, 1)
    read = torch.cat([torch.zeros_like(ends), ends], dim=1)  # (C, 2)
    blocks = text.transformer.resblocks
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        x = work(index, block, x, mask[:length, :length], read if last and not whole else None)
    pooled = text.ln_final(at(x, ends) if whole else x[:, -1:])[:, 0]  # (C, D)
    return pooled @ text.text_projection  # (C, F)


def by_length(tokens: Tensor, worth: int) -> list[Tensor]:
    """The rows (n,) of tokens (C, L) in groups of like length, as long as another group saves `worth` tokens."""
    ends, order = tokens.argmax(dim=1).sort(stable=True)
    groups = _split(order, (ends + 1).tolist(), worth)
    return groups if len(groups) > 1 else [torch.arange(len(tokens))]


def _split(order: Tensor, lengths: list[int], worth: int) -> list[Tensor]:
    """Groups of rows whose lengths rise: cut where it saves most, and each part again."""
    saved, cut = max(
        ((i * (lengths[-1] - lengths[i - 1]), i) for i in range(1, len(lengths))), default=(0, 0)
    )  # the shorter i rows end at their own longest
    if saved < worth or not cut:
        return [order]
    return _split(order[:cut], lengths[:cut], worth) + _split(order[cut:], lengths[cut:], worth)


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
        _refuse(f"the text tower is not causal with pooling at the end token (pool_type {text.text_pool_type})")
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

"""CLIP's two towers, block by block (paper, Sec. 3.1; Radford et al. 2021).

open_clip's modules are called from outside and stay as they are. `image_pass` and `text_pass` embed a batch; code that
adds something to the blocks (lib/moe/mixture.py) then writes the loop over them, as `Pass.features` does.

Only the tokens that features depend on are computed: prompts are cut to the longest one, which is exact because the
mask is causal (the released code pads all to 77 tokens), and the last block computes only the tokens that are read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

# Prompts are split into one more group if that saves this many tokens. A GPU prefers more work to more kernel launches.
WORTH = {"cpu": 512, "cuda": 1 << 14}


@dataclass(frozen=True)
class Block:
    """A residual block as one pass uses it."""

    layers: ResidualAttentionBlock
    mask: Tensor | None  # of attention (L, L)
    read: Tensor | None  # the positions (B, N) of the tokens that it computes; None: all L of them

    def __call__(self, x: Tensor) -> Tensor:
        """The frozen block: (B, L, D) to (B, L, D), or to (B, N, D)."""
        x = self.attend(x)
        return x + self.mlp(x)

    def attend(self, x: Tensor) -> Tensor:
        """x + MHA(LN1(x)): (B, L, D) to (B, L, D), or to (B, N, D)."""
        layers, normed, mask = self.layers, self.layers.ln_1(x), self.mask
        if self.read is None:
            return x + layers.ls_1(layers.attention(q_x=normed, attn_mask=mask))
        if mask is not None:  # attention wants one mask for each sample and head
            mask = mask[self.read].repeat_interleave(layers.attn.num_heads, dim=0)  # (B*heads, N, L)
        x, query = (each.take_along_dim(self.read[..., None], dim=1) for each in (x, normed))  # (B, N, D) both
        return x + layers.ls_1(layers.attention(query, normed, normed, mask))

    def mlp(self, x: Tensor) -> Tensor:
        """MLP(LN2(x)), what the block adds to x (B, L, D) after attention."""
        return self.layers.ls_2(self.layers.mlp(self.layers.ln_2(x)))


@dataclass(frozen=True)
class Pass:
    """A batch at the entrance of a tower: embedded tokens, the blocks, and the pooling after the last."""

    x: Tensor  # (B, L, D)
    blocks: list[Block]
    pool: Callable[[Tensor], Tensor]  # (B, L, D) or (B, N, D) to features (B, F)
    ends: Tensor | None = None  # positions (B,) of prompts' end tokens

    def features(self) -> Tensor:
        """The frozen tower's features (B, F), not normalised."""
        x = self.x
        for block in self.blocks:
            x = block(x)
        return self.pool(x)


def image_pass(clip: open_clip.CLIP, images: Tensor, whole: bool = False) -> Pass:
    """A pass of images (B, 3, H, W) through the image tower, whose last block computes the class token only.

    With `whole` it computes all tokens, as open_clip does: then features are CLIP's bit for bit, else up to rounding.
    """
    visual: Any = clip.visual
    x = visual._embeds(images)  # (B, L, D)
    reads_all = whole or visual.attn_pool is not None or visual.pool_type != "tok"
    class_token = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)  # (B, 1)
    blocks = _blocks(visual.transformer, None, None if reads_all else class_token)
    return Pass(x, blocks, lambda last: visual._pool(last)[0] @ visual.proj)  # (B, F)


def text_pass(clip: open_clip.CLIP, tokens: Tensor, whole: bool = False) -> Pass:
    """A pass of prompts' tokens (C, L), cut to the longest prompt, through the text tower.

    The last block computes the start token, by which a prompt may be routed, and the end token, which is pooled (with
    `whole`: all tokens). The end token is the largest number in each prompt.
    """
    text: Any = clip
    embedding, dtype = text.positional_embedding, text.transformer.get_cast_dtype()
    length = int(tokens.argmax(dim=1).max()) + 1
    tokens = tokens[:, :length].to(embedding.device)  # cut on the CPU, so that nothing waits for the GPU
    x = text.token_embedding(tokens).to(dtype) + embedding[:length].to(dtype)  # (C, L, D)
    ends = tokens.argmax(dim=1, keepdim=True)  # (C, 1)
    start_and_end = torch.cat([torch.zeros_like(ends), ends], dim=1)  # (C, 2)
    blocks = _blocks(text.transformer, text.attn_mask[:length, :length], None if whole else start_and_end)

    def pool(last: Tensor) -> Tensor:
        end = last.take_along_dim(ends[..., None], dim=1) if whole else last[:, -1:]  # (C, 1, D)
        return text.ln_final(end)[:, 0] @ text.text_projection  # (C, F)

    return Pass(x, blocks, pool, ends[:, 0])


def _blocks(transformer: Any, mask: Tensor | None, read: Tensor | None) -> list[Block]:
    """The blocks of a tower; `read` is for the last one."""
    *most, last = transformer.resblocks
    return [*(Block(layers, mask, None) for layers in most), Block(last, mask, read)]


def image_tower(clip: open_clip.CLIP, images: Tensor, whole: bool = False) -> Tensor:
    """Features (B, F), not normalised, of images (B, 3, H, W)."""
    return image_pass(clip, images, whole).features()


def text_tower(clip: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Features (C, F), not normalised, of tokens (C, L); short prompts are computed apart from long ones."""
    groups = by_length(tokens, WORTH[clip.logit_scale.device.type])
    if len(groups) == 1:
        return text_pass(clip, tokens).features()
    parts = [text_pass(clip, tokens[rows]).features() for rows in groups]
    return torch.cat(parts)[torch.cat(groups).argsort().to(parts[0].device)]


def by_length(tokens: Tensor, worth: int) -> list[Tensor]:
    """Row numbers (n,) of tokens (C, L) in groups of similar length; another group must save `worth` tokens."""
    ends, order = tokens.argmax(dim=1).sort(stable=True)
    groups = _split(order, (ends + 1).tolist(), worth)
    return groups if len(groups) > 1 else [torch.arange(len(tokens))]


def _split(order: Tensor, lengths: list[int], worth: int) -> list[Tensor]:
    """Cuts rows of rising length where that saves most tokens, then cuts both parts in the same way."""
    # after a cut at i, the i shorter prompts are padded to the longest of themselves
    cuts = ((i * (lengths[-1] - lengths[i - 1]), i) for i in range(1, len(lengths)))
    saved, cut = max(cuts, default=(0, 0))
    if saved < worth or not cut:
        return [order]
    return _split(order[:cut], lengths[:cut], worth) + _split(order[cut:], lengths[cut:], worth)


def check(clip: torch.nn.Module) -> None:
    """Raises ValueError, saying what does not fit, unless both towers are plain open_clip transformers."""
    if reason := next(_misfits(clip), None):
        raise ValueError(f"{reason}; use one of open_clip's plain ViT models, such as ViT-B-16-quickgelu")


def _misfits(clip: Any) -> Iterator[str]:
    if not isinstance(clip, open_clip.CLIP):
        yield f"the model is a {type(clip).__name__}, not open_clip's CLIP"
    visual: Any = clip.visual
    if not isinstance(visual, VisionTransformer):
        yield f"the image tower is a {type(visual).__name__}, not a VisionTransformer"
    if visual.output_tokens or visual.proj is None:
        yield "the image tower returns something other than projected features (output_tokens, proj)"
    if clip.attn_mask is None or clip.text_pool_type != "argmax":
        yield f"the text tower is not causal with pooling at the end token (pool_type {clip.text_pool_type})"
    if not isinstance(clip.text_projection, torch.nn.Parameter):
        yield "the text tower's projection is not a matrix"
    for name, tower in (("image", visual.transformer), ("text", clip.transformer)):
        for index, block in enumerate(tower.resblocks):
            if type(block) is not ResidualAttentionBlock:
                yield f"block {index} of the {name} tower is a {type(block).__name__}, not a ResidualAttentionBlock"

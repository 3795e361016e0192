"""Contrastive training of the tiny CLIP on the pre-training world (Radford et al. 2021, with several positives).

A caption that names content alone is true of every picture with that content in the batch; counting those pairs
as positives keeps the loss from punishing the model for being right.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import tiny as tiny_clip
from lib.study.progress import Progress
from tools.miniworld import snapshot
from tools.miniworld.world import WORLD, examples_of, vocabulary


@dataclass(frozen=True)
class World:
    """Rendered pictures N of the world, with compact caption tokens and content ids."""

    pictures: Tensor  # (N, 3, H, W) uint8
    tokens: Tensor  # (N, L) rows of the compact token table
    content: Tensor  # (N,) one id for each (kind, class)
    coloured: Tensor  # (N,) bool: the caption names colours, so it is true of its own picture only


def contents() -> list[tuple[str, str]]:
    """Every (kind, class) of the world, in the order of the content ids."""
    return [(name, c) for name, kind in WORLD.items() for c in kind.classes]


def rows_in_use(context: int) -> list[int]:
    """Rows of open_clip's token table that captions of the world use, ascending (the end token stays the largest)."""
    tokens = open_clip.SimpleTokenizer(context_length=context)(vocabulary())
    return sorted({0, *tokens.unique().tolist()})


def render(seed: int, count: int, split: str, context: int, workers: int = 2) -> World:
    """Renders `count` pictures of a split (train, held_out); the number of worker processes changes nothing."""
    chunk = 1000
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        starts = range(0, count, chunk)
        jobs = [pool.submit(examples_of, seed, range(s, min(s + chunk, count)), split) for s in starts]
        examples = [one for job in jobs for one in job.result()]
    ids = {content: i for i, content in enumerate(contents())}
    tokens = open_clip.SimpleTokenizer(context_length=context)([e.caption for e in examples])
    longest = int(tokens.argmax(dim=1).max()) + 1
    compact = np.searchsorted(rows_in_use(context), tokens[:, :longest].numpy())
    return World(
        torch.from_numpy(np.stack([e.picture for e in examples])).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(compact),
        torch.tensor([ids[e.content] for e in examples]),
        torch.tensor([e.coloured for e in examples]),
    )


def normalise(pictures: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to floats of mean and deviation one half, -1 to 1."""
    return pictures.float() / 127.5 - 1


def text_features(model: Any, tokens: Tensor) -> Tensor:
    """Normalised features (B, F) of compact tokens (B, L) cut to any length: exact under the causal mask."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]  # (B, L, D)
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(dim=1)] @ model.text_projection, dim=-1)


def contrastive_loss(model: open_clip.CLIP, world: World, batch: Tensor) -> Tensor:
    """Symmetric cross entropy over the batch (B,) where a caption may be true of several pictures."""
    image = F.normalize(model.encode_image(normalise(world.pictures[batch])), dim=-1)
    text = text_features(model, world.tokens[batch])
    logits = model.logit_scale.exp() * image @ text.T  # (B, B)
    content, coloured = world.content[batch], world.coloured[batch]
    true = (content[:, None] == content[None, :]) & ~coloured[None, :] | torch.eye(len(batch), dtype=torch.bool)
    rows = true / true.sum(dim=1, keepdim=True)
    columns = (true / true.sum(dim=0, keepdim=True)).T
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, columns)) / 2


def batch_of(seed: int, step: int, count: int, batch: int) -> Tensor:
    """The pictures (batch,) of a step: each epoch is a permutation of its own, so any step can be drawn alone."""
    epoch, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return torch.from_numpy(order[place * batch : (place + 1) * batch])


def train(
    world: World, config: dict[str, int], seed: int, steps: int, batch: int, lr: float, scratch: Path
) -> open_clip.CLIP:
    """Trains from nothing, or from the snapshot in `scratch`; returns the model in eval mode, its token table whole."""
    model = tiny_clip.build(config, seed).train()
    rows = rows_in_use(config["context"])
    table = cast(torch.nn.Embedding, model.token_embedding).weight.detach()
    model.token_embedding = torch.nn.Embedding.from_pretrained(table[rows].clone(), freeze=False)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    resume = scratch / "pretrain.safetensors"
    first = snapshot.read(resume, model.state_dict(), optimizer)
    progress = Progress("pretrain", steps, first)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle(step / steps)
        loss = contrastive_loss(model, world, batch_of(seed, step, len(world.pictures), batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.logit_scale.data.clamp_(max=float(np.log(100)))
        if progress.due(step + 1):
            progress.step(step + 1, loss.item())
        if (step + 1) % 500 == 0 and step + 1 < steps:
            snapshot.write(resume, model.state_dict(), optimizer, step + 1)
    return _with_whole_table(model, config["width"], seed, rows)


def one_cycle(done: float) -> float:
    """The share of the peak learning rate at a share of the run: up for a tenth, then a cosine to 0."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.1) / 0.9)))


def _with_whole_table(model: open_clip.CLIP, width: int, seed: int, rows: list[int]) -> open_clip.CLIP:
    table = tiny_clip.token_table(width, seed)
    table[rows] = cast(torch.nn.Embedding, model.token_embedding).weight.data
    model.token_embedding = torch.nn.Embedding.from_pretrained(table, freeze=False)
    return model.eval()


@torch.no_grad()
def zero_shot_by_kind(model: open_clip.CLIP, world: World, context: int) -> dict[str, float]:
    """Percent of a world's pictures named rightly among the classes of their kind, by "a photo of ..."."""
    tokenizer, accuracy = open_clip.SimpleTokenizer(context_length=context), {}
    everything = contents()
    for name, kind in WORLD.items():
        prompts = tokenizer([f"a photo of {kind.phrase.format(c)}." for c in kind.classes])
        text = F.normalize(model.encode_text(prompts), dim=-1)
        first = everything.index((name, kind.classes[0]))
        mine = (world.content >= first) & (world.content < first + len(kind.classes))
        image = torch.cat([model.encode_image(normalise(part)) for part in world.pictures[mine].split(500)])
        right = (image @ text.T).argmax(dim=1) == world.content[mine] - first
        accuracy[name] = 100 * right.float().mean().item()
    return accuracy

"""Training of the tiny CLIP on the pre-training world (Radford et al. 2021, in two losses).

Each picture has two captions. Its name competes with the other names of the batch and with names drawn from the whole
world: a small batch alone has too few. Its look competes with the other looks of the batch.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import tiny
from lib.data.tasks import channels_first
from lib.study.log import Progress
from tools.miniworld import glyphs, world
from tools.miniworld.materials import MATERIALS
from tools.miniworld.snapshot import load_snapshot, save_snapshot

EASY = (
    0.05  # the first share of the pictures is drawn in the easiest look, and the first share of the steps sees no other
)
OTHERS = 160  # names that are no picture's of the batch, with which the batch's names compete
LOOK = 0.2  # weight of the loss of the looks


@dataclass(frozen=True)
class Pairs:
    """Pictures of the world with their captions."""

    pictures: Tensor  # (N, 3, H, W) uint8
    name: Tensor  # (N,) places in world.names()
    look: Tensor  # (N,) places in `looks`
    looks: Tensor  # (M, L) compact tokens of all captions that tell a look


def compact(texts: list[str], context: int) -> Tensor:
    """Texts as rows of the compact token table (C, L), up to the longest text."""
    tokens = open_clip.SimpleTokenizer(context_length=context)(texts)
    longest = int(tokens.argmax(dim=1).max()) + 1
    return torch.from_numpy(np.searchsorted(rows_in_use(context), tokens[:, :longest].numpy()))


@cache
def rows_in_use(context: int) -> list[int]:
    """Rows of open_clip's token table that captions of the world use, ascending (the end token stays the largest)."""
    tokens = open_clip.SimpleTokenizer(context_length=context)(world.vocabulary())
    return sorted({0, *tokens.unique().tolist()})


def _example(seed: int, split: str, easy: int, index: int) -> world.Example:
    return world.example(seed, index, split, easy=index < easy)


def render(seed: int, count: int, split: str, context: int, workers: int = 2) -> Pairs:
    """Renders `count` pictures of a split (train, held_out); the result does not depend on the number of workers."""
    easy = round(EASY * count) if split == "train" else 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rendered = list(pool.map(partial(_example, seed, split, easy), range(count), chunksize=1000))
    names, looks = (
        {text: i for i, text in enumerate(texts)} for texts in (world.names(), sorted({e.look for e in rendered}))
    )
    return Pairs(
        channels_first(np.stack([e.picture for e in rendered])),
        torch.tensor([names[e.name] for e in rendered]),
        torch.tensor([looks[e.look] for e in rendered]),
        compact(list(looks), context),
    )


def normalise(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) uint8 as floats from -1 to 1."""
    return pictures.float() / 127.5 - 1


def text_features(model: Any, tokens: Tensor) -> Tensor:
    """Unit features (B, F) of compact tokens (B, L). L may be any length: the causal mask makes them exact."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]  # (B, L, D)
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(dim=1)] @ model.text_projection, dim=-1)


def loss_of(model: Any, pairs: Pairs, names: Tensor, batch: Tensor, others: Tensor) -> Tensor:
    """The loss of the pictures at places `batch` (B,).

    names: compact tokens (V, L) of all names in one frame. others: places of names that compete with the batch's own.
    """
    image = model.logit_scale.exp() * F.normalize(model.encode_image(normalise(pairs.pictures[batch])), dim=-1)
    candidates, name = torch.cat([pairs.name[batch], others]).unique(return_inverse=True)
    looks, look = pairs.look[batch].unique(return_inverse=True)
    by_name = F.cross_entropy(
        image @ text_features(model, names[candidates]).T, name[: len(batch)], label_smoothing=0.05
    )
    return by_name + LOOK * F.cross_entropy(image @ text_features(model, pairs.looks[looks]).T, look)


def batch_of(seed: int, step: int, steps: int, count: int, batch: int) -> Tensor:
    """The places (batch,) of a step's pictures: the easy ones first. Any step can be drawn alone."""
    first = round(EASY * steps)
    step, count = (step, max(batch, round(EASY * count))) if step < first else (step - first, count)
    epoch, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, epoch, count]).permutation(count)
    return torch.from_numpy(order[place * batch : (place + 1) * batch])


def one_cycle(done: float) -> float:
    """The share of the peak learning rate when a share of the run is done: up for a tenth, then a cosine to 0."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.1) / 0.9)))


def train(
    pairs: Pairs, config: dict[str, int], seed: int, steps: int, batch: int, lr: float, scratch: Path
) -> open_clip.CLIP:
    """Trains from nothing, or from the snapshot in `scratch`; returns the model in eval mode, its token table whole."""
    model: Any = tiny.build(config, seed).train()
    rows, vocabulary = rows_in_use(config["context"]), [world.PHRASE.format(name) for name in world.names()]
    frames = [compact([f"{frame.format(name)}." for name in vocabulary], config["context"]) for frame in world.FRAMES]
    used = model.token_embedding.weight.detach()[rows].clone()
    model.token_embedding = torch.nn.Embedding.from_pretrained(used, freeze=False)
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == several] for several in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    snapshot = scratch / "pretrain.safetensors"
    first = load_snapshot(snapshot, model.state_dict(), optimizer)
    progress = Progress("pretrain", steps, first)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle(step / steps)
        rng = np.random.default_rng([seed, step])
        names, others = frames[rng.integers(len(frames))], torch.from_numpy(rng.integers(0, len(vocabulary), OTHERS))
        chosen = batch_of(seed, step, steps, len(pairs.pictures), batch)
        loss = loss_of(model, pairs, names, chosen, others)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.logit_scale.data.clamp_(max=float(np.log(100)))
        if progress.due(step + 1):
            progress.report(step + 1, f"steps, loss {loss.item():.3f}")
        if (step + 1) % 500 == 0 and step + 1 < steps:
            save_snapshot(snapshot, model.state_dict(), optimizer, step + 1)
    table = tiny.token_table(config["width"], seed)
    table[rows] = model.token_embedding.weight.data
    model.token_embedding = torch.nn.Embedding.from_pretrained(table, freeze=False)
    return model.eval()


def kinds() -> dict[str, list[str]]:
    """The names that a zero-shot answer is chosen from, by kind."""
    return {k: list(names) for k, names in glyphs.things().items()} | {
        "digits": glyphs.DIGITS,
        "materials": list(MATERIALS),
    }


@torch.no_grad()
def zero_shot_by_kind(model: open_clip.CLIP, pairs: Pairs, context: int) -> dict[str, float]:
    """Zero-shot accuracy (percent) by kind: each picture is answered among the names of its kind."""
    tokenizer, accuracy, places = open_clip.SimpleTokenizer(context_length=context), {}, world.names()
    for kind, names in kinds().items():
        prompts = tokenizer([f"{world.FRAMES[0].format(world.PHRASE.format(name))}." for name in names])
        text = F.normalize(model.encode_text(prompts), dim=-1)
        target = torch.tensor([places.index(name) for name in names])
        mine = torch.isin(pairs.name, target)
        image = torch.cat([model.encode_image(normalise(part)) for part in pairs.pictures[mine].split(500)])
        accuracy[kind] = 100 * (target[(image @ text.T).argmax(dim=1)] == pairs.name[mine]).float().mean().item()
    return accuracy

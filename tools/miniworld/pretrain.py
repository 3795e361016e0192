"""Contrastive training of the tiny CLIP on the pre-training world (Radford et al. 2021, with several positives).

A caption that names the content alone is true of every picture with that content in the batch. All those pairs count
as positives, so that the loss does not punish the model for being right.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.clip import tiny
from lib.data.tasks import channels_first
from lib.files import whole
from lib.study.log import Progress
from tools.miniworld.world import KINDS, example, vocabulary


@dataclass(frozen=True)
class Pairs:
    """Pictures of the world with their captions."""

    pictures: Tensor  # (N, 3, H, W) uint8
    tokens: Tensor  # (N, L) rows of the compact token table
    content: Tensor  # (N,) one id for each (kind, class)
    coloured: Tensor  # (N,) bool: the caption names colours, so it is true of its own picture only


def contents() -> list[tuple[str, str]]:
    """Every (kind, class) of the world, in the order of the content ids."""
    return [(name, c) for name, kind in KINDS.items() for c in kind.classes]


def rows_in_use(context: int) -> list[int]:
    """Rows of open_clip's token table that captions of the world use, ascending (the end token stays the largest)."""
    tokens = open_clip.SimpleTokenizer(context_length=context)(vocabulary())
    return sorted({0, *tokens.unique().tolist()})


def render(seed: int, count: int, split: str, context: int, workers: int = 2) -> Pairs:
    """Renders `count` pictures of a split (train, held_out); the result does not depend on the number of workers."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rendered = list(pool.map(partial(example, seed, split=split), range(count), chunksize=1000))
    ids = {content: i for i, content in enumerate(contents())}
    tokens = open_clip.SimpleTokenizer(context_length=context)([e.caption for e in rendered])
    longest = int(tokens.argmax(dim=1).max()) + 1
    compact = np.searchsorted(rows_in_use(context), tokens[:, :longest].numpy())
    return Pairs(
        channels_first(np.stack([e.picture for e in rendered])),
        torch.from_numpy(compact),
        torch.tensor([ids[e.content] for e in rendered]),
        torch.tensor([e.coloured for e in rendered]),
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


def contrastive_loss(model: open_clip.CLIP, pairs: Pairs, batch: Tensor) -> Tensor:
    """Symmetric cross entropy over a batch of places (B,), where a caption may be true of several pictures."""
    image = F.normalize(model.encode_image(normalise(pairs.pictures[batch])), dim=-1)
    text = text_features(model, pairs.tokens[batch])
    logits = model.logit_scale.exp() * image @ text.T  # (B, B)
    content, coloured = pairs.content[batch], pairs.coloured[batch]
    true = (content[:, None] == content[None, :]) & ~coloured[None, :] | torch.eye(len(batch), dtype=torch.bool)
    rows = true / true.sum(dim=1, keepdim=True)
    columns = (true / true.sum(dim=0, keepdim=True)).T
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, columns)) / 2


def batch_of(seed: int, step: int, count: int, batch: int) -> Tensor:
    """The places (batch,) of a step's pictures. Each epoch has its own permutation, so any step can be drawn alone."""
    epoch, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return torch.from_numpy(order[place * batch : (place + 1) * batch])


def train(
    pairs: Pairs, config: dict[str, int], seed: int, steps: int, batch: int, lr: float, scratch: Path
) -> open_clip.CLIP:
    """Trains from nothing, or from the snapshot in `scratch`; returns the model in eval mode, its token table whole."""
    model: Any = tiny.build(config, seed).train()
    rows = rows_in_use(config["context"])
    used = model.token_embedding.weight.detach()[rows].clone()
    model.token_embedding = torch.nn.Embedding.from_pretrained(used, freeze=False)
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == several] for several in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    snapshot = scratch / "pretrain.safetensors"
    first = load_snapshot(snapshot, model.state_dict(), optimizer)
    progress = Progress("pretrain", steps, first)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle(step / steps)
        loss = contrastive_loss(model, pairs, batch_of(seed, step, len(pairs.pictures), batch))
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


def one_cycle(done: float) -> float:
    """The share of the peak learning rate when a share of the run is done: up for a tenth, then a cosine to 0."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.1) / 0.9)))


def save_snapshot(file: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes a state dict and the optimizer's state after `step` steps."""
    state = optimizer.state_dict()["state"]
    held = {f"tensor/{name}": value.detach() for name, value in tensors.items()}
    held |= {f"optimizer/{i}/{key}": value for i, slots in state.items() for key, value in slots.items()}
    with whole(file) as partial:
        save_file({key: value.contiguous().cpu() for key, value in held.items()}, partial, {"step": str(step)})


def load_snapshot(file: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restores a snapshot in place and returns its step; without one it returns 0. Raises ValueError for a bad one."""
    if not file.exists():
        return 0
    try:
        with safe_open(file, "pt") as opened:
            step = int(opened.metadata()["step"])
            held = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"the snapshot {file} cannot be read ({error}); delete it to train from the start") from error
    state: dict[int, dict[str, Tensor]] = {}
    for key in (key for key in held if key.startswith("optimizer/")):
        _, index, slot = key.split("/")
        state.setdefault(int(index), {})[slot] = held[key]
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    for name, value in tensors.items():
        value.copy_(held[f"tensor/{name}"])
    return step


@torch.no_grad()
def zero_shot_by_kind(model: open_clip.CLIP, pairs: Pairs, context: int) -> dict[str, float]:
    """Zero-shot accuracy (percent) by kind: each picture is answered among the classes of its kind."""
    tokenizer, accuracy = open_clip.SimpleTokenizer(context_length=context), {}
    everything = contents()
    for name, kind in KINDS.items():
        prompts = tokenizer([f"a photo of {kind.phrase.format(c)}." for c in kind.classes])
        text = F.normalize(model.encode_text(prompts), dim=-1)
        first = everything.index((name, kind.classes[0]))
        mine = (pairs.content >= first) & (pairs.content < first + len(kind.classes))
        image = torch.cat([model.encode_image(normalise(part)) for part in pairs.pictures[mine].split(500)])
        right = (image @ text.T).argmax(dim=1) == pairs.content[mine] - first
        accuracy[name] = 100 * right.float().mean().item()
    return accuracy

"""The work of evaluating a whole study at MTIL's sizes: passes through CLIP's towers and floating-point operations.

Task j of T has N_j test pictures and P_j class prompts (classes times templates). The released code runs every picture
through an image tower after each task, and every prompt through T + 1 text towers at the full context:

    pictures  T N                                   prompts  T (T + 1) P

Here the frozen CLIP sees every picture once in a study. After a task only the pictures that are routed to a learned
task are run, and not those again whose experts are all frozen; prompts are cut to their length:

    pictures  N + sum over j of N_j (1 + a (T - j))    prompts  P + sum over j of P_j (1 + T - j),    j = 1 .. T

where a is the share of pictures that run again, and the selector is assumed to be right.
"""

from functools import cache
from typing import Any

import numpy as np
import open_clip
import torch

from lib.clip import towers
from lib.study import params
from tools.bench.meters import operations
from tools.datasets.catalogue import Entry, catalogue

MODEL, CONTEXT = "ViT-B-16-quickgelu", 77
AGAIN = 1.323  # the share a in the small study (mini, order I), from `encoded_pictures` in its cost files


@cache
def _clip() -> Any:
    return open_clip.create_model(MODEL, pretrained=None, device="meta").eval()  # shapes without numbers


@torch.no_grad()
def image_operations(whole: bool) -> int:
    """Operations of the image tower for one picture; not whole: the last block computes the class token alone."""
    images = torch.empty(1, 3, *_clip().visual.image_size, device="meta")
    return operations(lambda: towers.image_tower(_clip(), images, whole=whole))


@cache
@torch.no_grad()
def text_operations(length: int, whole: bool) -> int:
    """Operations of the text tower for one prompt of so many tokens; not whole: the last block computes two tokens."""
    tokens = torch.zeros(1, length, dtype=torch.long)
    tokens[0, -1] = 1  # the end token
    return operations(lambda: towers.text_pass(_clip(), tokens, whole).features())


def class_operations(entry: Entry) -> tuple[int, int]:
    """Operations for a data set's class features over all templates: at the full context, and as they are done here."""
    ours, tokenizer = 0, open_clip.get_tokenizer(MODEL)
    for template in entry.templates:
        tokens = tokenizer([template.format(name) for name in entry.names])
        for rows in towers.by_length(tokens, towers.WORTH["cpu"]):
            ours += len(rows) * text_operations(int(tokens[rows].argmax(dim=1).max()) + 1, False)
    return len(entry.names) * len(entry.templates) * text_operations(CONTEXT, True), ours


def evaluation(again: float) -> dict[str, Any]:
    """Passes and operations of MTIL's evaluation in both ways if a share `again` of the pictures runs again."""
    entries = [catalogue(name) for name in params.load("studies/mtil.yaml").tasks.orders["I"]]
    tasks, pictures = len(entries), np.array([entry.test for entry in entries])
    later = np.arange(tasks - 1, -1, -1)  # (T,) tasks after each
    full, short = np.array([class_operations(entry) for entry in entries]).T
    once, routed = pictures.sum(), (pictures * (1 + again * later)).sum()
    plain = tasks * once * image_operations(True) + tasks * (tasks + 1) * full.sum()
    ours = once * image_operations(True) + routed * image_operations(False) + short.sum() + (short * (1 + later)).sum()
    return {
        "tasks": tasks,
        "asked_again": again,
        "passes_a_picture": {"plain": tasks, "ours": round(float((once + routed) / once), 2)},
        "operations": {"plain": float(plain), "ours": float(ours)},
        "ratio": round(float(plain / ours), 2),
    }

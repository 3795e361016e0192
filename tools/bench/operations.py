"""What the evaluation of a whole study costs, counted: encoder passes and floating-point operations at MTIL's sizes.

With T tasks of N_j test pictures and P_j class prompts (classes times templates), N and P in all. The plain way is the
released code's: after each task every picture goes through an image tower, and every data set's prompts through T + 1
text towers at the full context:

    pictures  T N                                   prompts  T (T + 1) P

Here the frozen CLIP sees every picture once in a study. After a task only pictures routed to a learned task are run,
and of these not again those for which no expert on their way can change; prompts are cut to their length:

    pictures  N + sum over j of N_j (1 + a (T - j))    prompts  P + sum over j of P_j (1 + T - j),    j = 1 .. T

where a is the share that is asked again, and the selector is taken to be right.
"""

import json
from typing import Any

import numpy as np
import open_clip

from lib.clip import towers
from lib.study import params
from lib.study.paths import REPORTS
from tools.datasets.catalogue import Entry, catalogue

STUDY, ORDER = "mtil", "I"
IMAGE, TEXT = (768, 12, 197), (512, 12)  # width, blocks and tokens of ViT-B/16's towers
PATCHES = 2 * 196 * 768 * 3 * 16**2
CONTEXT = 77
NAMED = {100: "aircraft", 397: "sun397"}  # data sets by their number of classes


def tower_flops(width: int, layers: int, tokens: int, read: int = 0) -> int:
    """Operations of a forward pass through a tower's blocks; with `read` tokens of the last block alone.

    A token takes 24 D^2 for products (of which 4 D^2 for keys and values) and 4 L D for attention.
    """
    whole = tokens * (24 * width**2 + 4 * tokens * width)
    last = tokens * 4 * width**2 + read * (20 * width**2 + 4 * tokens * width) if read else whole
    return (layers - 1) * whole + last


def prompts(classes: int) -> list[str]:
    """The training prompts of the data set that has so many classes."""
    entry = catalogue(NAMED[classes])
    return [entry.templates[0].format(name) for name in entry.names]


def text_flops(entry: Entry, tokenizer: Any) -> tuple[int, int]:
    """Operations for a data set's class features over all templates: at the full context, and as it is done here."""
    whole = len(entry.names) * len(entry.templates) * tower_flops(*TEXT, CONTEXT)
    ours = 0
    for template in entry.templates:
        tokens = tokenizer([template.format(name) for name in entry.names])
        for rows in towers.by_length(tokens, towers.WORTH["cpu"]):
            length = towers.cut_padding(tokens[rows]).shape[1]
            ours += len(rows) * tower_flops(*TEXT, length, read=2)
    return whole, ours


def asked_again(study: str = "mini", order: str = "I") -> tuple[float, float] | None:
    """On a study that was run: passes of the image tower over test pictures, and the share a; None if it was not.

    The passes are a test picture's, of the whole study. More than one router can be asked about a picture: for its own
    sake, for the batch's, and for the oracle's.
    """
    files = sorted((REPORTS / "cost" / study).glob(f"moe_adapters--{order}--s*.json"))
    counts = [list(json.loads(file.read_text()).get("encoded_pictures", {}).values()) for file in files]
    whole = sorted((REPORTS / "results" / study).glob(f"moe_adapters--{order}--s*.json"))
    if not whole or not all(counts) or not counts:
        return None
    tested = np.array(tested_pictures(json.loads(whole[0].read_text())))  # (T,)
    asked = np.mean(counts, axis=0)  # (T,)
    earlier = np.cumsum(tested) - tested
    again = float((asked - tested).sum() / earlier.sum())
    return float(1 + asked.sum() / tested.sum()), min(1.0, max(0.0, again))


def tested_pictures(content: dict[str, Any]) -> list[int]:
    """The number of test pictures of each task, from where a result says that they were sent."""
    return [sum(routes) for routes in content["routed"]["sample"][0]]


def batches(routed: list[list[list[int]]], pictures: int, size: int = 128) -> tuple[int, int]:
    """Batches that routers are asked after all tasks: task by task, as it is done, and with all tasks' pictures pooled.

    routed: by time and task, the test pictures sent to each learned task and last to CLIP; pictures: as if each task
    had so many. Nothing is pooled, since it would save next to nothing at the sizes of real data sets.
    """
    apart = pooled = 0
    for sent in routed:
        shares = np.array(sent)[:, :-1] / np.sum(sent, axis=1, keepdims=True)  # (T, learned)
        counts = np.ceil(pictures * shares)
        apart += int(np.ceil(counts / size).sum())
        pooled += int(np.ceil(counts.sum(axis=0) / size).sum())
    return apart, pooled


def pooling(study: str = "mini", order: str = "I") -> dict[str, int] | None:
    """`batches` of MTIL's mean number of test pictures, sent as a study's first seed sent its own; None without it."""
    file = REPORTS / "results" / study / f"moe_adapters--{order}--s0.json"
    if not file.exists():
        return None
    names = params.load(f"studies/{STUDY}/params.yaml").tasks.orders[ORDER]
    mean = sum(catalogue(name).test for name in names) // len(names)
    apart, pooled = batches(json.loads(file.read_text())["routed"]["sample"], mean)
    return {"by_task": apart, "pooled": pooled}


def evaluation(again: float) -> dict[str, Any]:
    """Passes and operations for MTIL's evaluation in both ways, if a share `again` is asked again, and their ratio."""
    names = params.load(f"studies/{STUDY}/params.yaml").tasks.orders[ORDER]
    entries = [catalogue(name) for name in names]
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    tasks, pictures = len(entries), np.array([entry.test for entry in entries])
    later = np.arange(tasks - 1, -1, -1)  # (T,) tasks after each
    full, short = np.array([text_flops(entry, tokenizer) for entry in entries]).T
    image, spared = PATCHES + tower_flops(*IMAGE), PATCHES + tower_flops(*IMAGE, read=1)
    once, routed = pictures.sum(), (pictures * (1 + again * later)).sum()
    plain = tasks * once * image + tasks * (tasks + 1) * full.sum()
    ours = once * image + routed * spared + short.sum() + (short * (1 + later)).sum()
    return {
        "tasks": tasks,
        "asked_again": round(again, 3),
        "passes_a_picture": {"plain": tasks, "ours": round(float((once + routed) / once), 2)},
        "operations": {"plain": float(plain), "ours": float(ours)},
        "ratio": round(float(plain / ours), 2),
    }

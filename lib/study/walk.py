"""Pictures to walk through in the report: what the selector and every router of a finished run say of a test picture.

The candidates are the classes of all tasks (or of the task, in a study without union labels). Mistakes come first.
"""

import base64
import io
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.data.scenarios import Tested
from lib.methods.moe_adapters import MoEAdapters
from lib.selector import CLIP
from lib.study.stage import Stage

WRONG, RIGHT = 8, 4  # pictures of a task, at most
LARGEST = 96  # pixels a side


@torch.no_grad()
def walk(stage: Stage) -> dict[str, Any]:
    """Some test pictures of every task, as a finished run of moe_adapters sees them at its end, ready for JSON.

    Raises CheckpointError without a checkpoint.
    """
    method: Any = stage.finished()
    views = stage.curriculum.space.after(stage.item.tasks - 1)
    union = "union_" in views
    names = [lesson.task.name for lesson in stage.curriculum.lessons]
    method.made = {}  # the names are read once for each router
    parts = [_of_task(method, views["union_" if union else ""], number) for number in range(len(names))]
    method.made = None
    turns = [picture for turn in zip_longest(*parts) for picture in turn if picture]  # a task after the other
    shown = sorted(turns, key=lambda picture: picture["right"])
    thresholds = [_short(value) for value in method.selector.thresholds]
    return {
        "run": Path(stage.item.result).stem,
        "union": union,
        "tasks": names,
        "thresholds": thresholds,
        "pictures": shown,
    }


def _of_task(method: MoEAdapters, views: Tested, number: int) -> list[dict[str, Any]]:
    """The pictures of a task: wrong ones, then right ones, evenly spread over its test split."""
    task, features = views[0][number], views[1][number]
    predicted = method.predict(task, features, number)
    classes, routes = predicted.classes["sample"], predicted.routes["sample"]
    right = classes == task.test.labels
    places = torch.cat([_spread((~right).nonzero()[:, 0], WRONG), _spread(right.nonzero()[:, 0], RIGHT)])
    assert method.selector is not None  # it has learned every task
    seen = method.seen_by_selector(task.test.images, features.test)[places]
    errors, reference = method.selector.errors(seen), method.selector.reference
    none = torch.zeros(len(places)) if reference is None else reference(seen.to(method.selector.device))
    answers = [method.ask(task, features, router, places) for router in range(errors.shape[1])]
    answered = torch.stack([*answers, features.zero_shot[places]], dim=1).tolist()  # (n, T + 1), last CLIP's
    return [
        {
            "task": number,
            "name": task.classes[int(task.test.labels[place])],
            "right": bool(right[place]),
            "route": len(answers) if routes[place] == CLIP else int(routes[place]),
            "errors": [_short(value) for value in errors[row]],
            "reference": None if reference is None else _short(none[row]),
            "answers": [task.classes[answer] for answer in answered[row]],
            "png": _png(task.test.images[place]),
        }
        for row, place in enumerate(places.tolist())
    ]


def _spread(places: Tensor, most: int) -> Tensor:
    """At most so many of the places, evenly spread."""
    return places[np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)]


def _short(value: float | Tensor) -> float:
    return float(f"{float(value):.3g}")


def _png(image: Tensor) -> str:
    """A uint8 picture (3, H, W) as a PNG in base64, at most LARGEST pixels a side."""
    held, picture = io.BytesIO(), Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((LARGEST, LARGEST))
    picture.save(held, "png", optimize=True)
    return base64.b64encode(held.getvalue()).decode()

"""Few-shot learning: a task with a few of its training pictures, drawn by a seed."""

from dataclasses import replace

import numpy as np
import torch

from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task


def shots(task: Task, features: Features, count: int, seed: int) -> tuple[Task, Features]:
    """The task and its features with `count` training pictures of each class (0 = all).

    Adapters and selector learn from the same draw. Raises ValueError if a class has fewer pictures.
    """
    if not count:
        return task, features
    rng, kept = np.random.default_rng([seed, count]), []
    for label, name in enumerate(task.classes):
        places = np.flatnonzero(task.train.labels.numpy() == label)
        if len(places) < count:
            raise ValueError(f"task {task.name}: class {name} has {len(places)} training pictures, fewer than {count}")
        kept.append(np.sort(rng.permutation(places)[:count]))
    index = torch.from_numpy(np.concatenate(kept))
    train = Pictures(task.train.images[index], task.train.labels[index])
    picked = replace(features, train=features.train[index], image_train=features.image_train[index])
    return replace(task, train=train), picked

"""What a study says of its pictures: where tasks come from and in which orders (params `tasks`), and `reference`."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from lib.settings import Count, Name, Order, Positive, Template, each_once, rule

Source = Literal["mini", "folder", "datasets", "hub"]  # lib.data.folders.SOURCES has their modules


@dataclass(frozen=True)
class HubSet:
    """A data set of the Hugging Face hub: parquet files with a column of pictures and one of labels.

    repo: owner/name. revision: a commit, all 40 digits. train, test: its splits. image, label: its columns.
    """

    repo: Annotated[str, rule("owner/name", lambda repo: bool(re.fullmatch(r"[\w.-]+/[\w.-]+", repo)))]
    revision: Annotated[str, rule("a commit, 40 hex digits", lambda r: bool(re.fullmatch("[0-9a-f]{40}", r)))]
    train: str = "train"
    test: str = "test"
    image: str = "image"
    label: str = "label"


@dataclass(frozen=True)
class TaskSettings:
    """Where the pictures come from and in which orders the tasks are learned (params `tasks`).

    root: the folder of the pictures, for `folder` and `datasets`. train_per_class, test_per_class: at most, for all
    tasks or by task; 0 = all. splits: those of MTIL (protocol), or CoOp's where there are some (X-TAIL). labels: see
    lib.data.scenarios. cut: for class-incremental learning, how many classes each part of a data set has; class_order:
    their order before the cut.
    sets: for the source `hub`, the data set of each task. tested_after: for a long sequence, after how many tasks all
    are tested, and after the last; [] = after each.
    """

    source: Source
    root: str
    seed: Count
    train_per_class: Count | dict[Name, Count]
    test_per_class: Count | dict[Name, Count]
    templates: list[Template]
    orders: dict[Name, Order]
    labels: Literal["own", "union", "seen"] = "own"
    splits: Literal["protocol", "coop"] = "protocol"
    cut: list[Positive] = field(default_factory=list)
    class_order: Annotated[list[Count], rule("class numbers, each once", each_once)] = field(default_factory=list)
    tested_after: Annotated[list[Positive], rule("numbers of tasks, each once", each_once)] = field(
        default_factory=list
    )
    sets: dict[Name, HubSet] = field(default_factory=dict)

    def per_class(self, task: str) -> tuple[int, int]:
        """How many pictures of a class a task has at most for training and for tests; 0 = all."""
        most = self.train_per_class, self.test_per_class
        train, test = (each.get(task, 0) if isinstance(each, dict) else each for each in most)
        return train, test

    @property
    def limits(self) -> str:
        """What was left out of pictures that others made, in words; empty if nothing was."""
        parts = []
        for kind, most in (("training", self.train_per_class), ("test", self.test_per_class)):
            if isinstance(most, dict):
                parts.append(f"{kind} pictures of a class: {', '.join(f'{task} {n}' for task, n in most.items() if n)}")
            elif most:
                parts.append(f"{most} {kind} pictures of a class")
        return f"At most {'; '.join(parts)}." if parts and self.source != "mini" else ""


@dataclass(frozen=True)
class ReferenceSettings:
    """The reference set of a study (params `reference`): how many pictures are drawn from where, by the seed.

    `mini`: held-out pictures of the pre-training world, with their own captions; `folder`: <root>/<class>/*.png;
    `datasets`: training pictures of data set `name`. Captions of these two are the first template with the class name.
    """

    source: Source
    root: str
    pictures: Positive
    seed: Count
    name: str = ""

    def choose(self, count: int) -> list[int]:
        """Which of `count` pictures are drawn: their places, ascending."""
        return sorted(np.random.default_rng(self.seed).permutation(count)[: self.pictures].tolist())

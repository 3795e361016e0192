"""Facts about the paper's data sets (MTIL's 11 and Tiny ImageNet), committed as `data/catalogue/<name>.yaml`."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lib.settings import build
from lib.strict_yaml import read_yaml
from lib.study.studies import DATA

CATALOGUE = DATA / "catalogue"
NAMES = sorted(file.stem for file in CATALOGUE.glob("*.yaml"))


class DataError(ValueError):
    """Data that is missing, damaged or refused; the message names the file and says what to do."""


@dataclass(frozen=True)
class File:
    """A file to download, and the folder `to` (below the root) that its content belongs in.

    checksum: md5:<32 hex digits> or sha256:<64>. form: how it is packed; `gz` holds one file, `plain` is not packed.
    inner: an archive inside this archive; only the content of the inner one is wanted.
    """

    url: str
    checksum: str
    to: str
    form: Literal["tar", "zip", "gz", "plain"]
    inner: str | None = None


@dataclass(frozen=True)
class Copy:
    """A copy of a data set on the Hugging Face hub: its parquet files at a commit (tools/datasets/hub_copies.py).

    files: patterns of their paths. gigabytes: how large they are in all.
    """

    repo: str
    revision: str
    files: list[str]
    gigabytes: float


@dataclass(frozen=True)
class Entry:
    """The facts of one data set.

    classes: the data set's own class names in label order, each with its name in prompts. templates: the training
    template comes first. train, test: the number of pictures in each split. folder: where it lies below the root.
    needs: what must be in that folder. copy: where the hub has it. by_hand: which files to put where. coop: the name
    in the name of CoOp's file, and the folder that the paths in that file start from.
    """

    classes: dict[str, str]
    templates: list[str]
    train: int
    test: int
    folder: str
    needs: list[str]
    source: str
    licence: str | None = None
    files: list[File] = field(default_factory=list)
    copy: Copy | None = None
    by_hand: str | None = None
    coop: tuple[str, str] | None = None

    @property
    def names(self) -> list[str]:
        """The class names for prompts, in label order."""
        return list(self.classes.values())

    @property
    def fetched(self) -> bool:
        """Whether the stage `data` can fetch it."""
        return bool(self.files or self.copy)

    def advice(self, root: Path) -> str:
        """How to get the data set below `root`, for messages."""
        steps = [f"{'put' if file.form == 'plain' else 'unpack'} {file.url} in {root / file.to}" for file in self.files]
        return "; ".join(steps + ([f"by hand: {self.by_hand}"] if self.by_hand else []))


@functools.cache  # parsing 400 names takes a while
def catalogue(name: str) -> Entry:
    """The facts of a data set. Raises DataError for an unknown name, ParamsError for an invalid file."""
    if name not in NAMES:
        raise DataError(f"there is no data set {name!r}; there are: {', '.join(NAMES)}")
    file = f"data/catalogue/{name}.yaml"
    return build(Entry, read_yaml(CATALOGUE / f"{name}.yaml", file), file)

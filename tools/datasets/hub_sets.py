"""Tasks from image classification sets of the Hugging Face hub (a source of lib/data/folders.py), read from parquet.

    tasks:
      source: hub
      sets: {beans: {repo: OWNER/NAME, revision: COMMIT, train: train, test: validation, image: image, label: labels}}

The parquet files of a split are those that the hub names after it: train-00000-of-00002.parquet, or a folder train/.
They go into the hub's cache; a cut download goes on. Only the pictures that a study takes are decoded.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.clip.hub import snapshot
from lib.data.folders import decode
from lib.data.task_settings import HubSet, ReferenceSettings, TaskSettings
from lib.data.tasks import Pictures, Task, TaskError, channels_first, save

BATCH = 256  # rows that are read at once


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Writes the task of a data set. Raises TaskError for one that cannot be had or used."""
    about, most = settings.sets[name], settings.per_class(name)
    if not settings.templates:
        raise TaskError('params tasks.templates is empty; a hub study needs prompts, such as "a photo of a {}."')
    files = [fetch(about, split) for split in (about.train, about.test)]
    labels = [_labels(part, about) for part in files]
    classes = _classes(about, labels)
    train, test = (
        _pictures(part, about, [classes.index(label) for label in named], limit, size, settings.seed)
        for part, named, limit in zip(files, labels, most, strict=True)
    )
    save(Task(name, [str(label).replace("_", " ") for label in classes], settings.templates, train, test), file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """A reference set comes from another source. Raises TaskError."""
    raise TaskError("reference.source is hub; choose mini, folder or datasets")


def fetch(about: HubSet, split: str) -> list[Path]:
    """The parquet files of a split, fetched if they are not in the cache. Raises TaskError."""
    patterns = [f"{split}-*.parquet", f"**/{split}-*.parquet", f"{split}/*.parquet", f"**/{split}/*.parquet"]
    try:
        folder = snapshot(about.repo, about.revision, patterns, "dataset")
    except (ValueError, ConnectionError) as error:
        raise TaskError(str(error)) from error
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        raise TaskError(f"{about.repo} has no parquet files of a split {split!r}; its page shows the splits")
    return files


def parquet(file: Path) -> Any:
    """An opened parquet file. Raises TaskError for a broken one, and without pyarrow."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise TaskError("data sets of the hub need pyarrow: .venv/bin/pip install '.[hub]'") from None
    try:
        return ParquetFile(file)
    except (ArrowInvalid, OSError) as error:
        raise TaskError(f"{file} is no whole parquet file ({error}); delete it and run again") from error


def rows(files: list[Path], column: str, where: str) -> Iterator[Any]:
    """The values of a column, file after file. Raises TaskError for a column that is not there, in `where`."""
    for file in files:
        opened = parquet(file)
        if column not in (names := opened.schema_arrow.names):
            raise TaskError(f"{where} has no column {column!r}; it has: {', '.join(names)}")
        for batch in opened.iter_batches(BATCH, columns=[column]):
            yield from batch.column(0).to_pylist()


def class_names(file: Path, label: str) -> list[str] | None:
    """What the numbers in the column `label` stand for, if the file says it."""
    held = (parquet(file).schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    return json.loads(held).get("info", {}).get("features", {}).get(label, {}).get("names")


def _labels(files: list[Path], about: HubSet) -> list[Any]:
    """The labels of a split: class names, where the file has numbers and says what they mean."""
    names, labels = class_names(files[0], about.label), list(rows(files, about.label, about.repo))
    if any(label is None for label in labels):
        raise TaskError(f"{about.repo}: column {about.label!r} has rows without a label")
    return [names[label] for label in labels] if names else labels


def _classes(about: HubSet, labels: list[list[Any]]) -> list[Any]:
    """The classes, sorted by name. Raises TaskError if a split lacks one or has another."""
    train, test = (dict.fromkeys(each) for each in labels)
    if odd := sorted(map(str, set(train) ^ set(test))):
        raise TaskError(f"{about.repo}: only one of its two splits has pictures of {', '.join(odd[:5])}")
    if any(isinstance(label, int) for label in train):
        raise TaskError(f"{about.repo}: column {about.label!r} has numbers without names; choose a column with names")
    return sorted(train)


def _pictures(files: list[Path], about: HubSet, labels: list[int], most: int, size: int, seed: int) -> Pictures:
    """At most `most` pictures of each class, drawn by the seed, or all; only these are decoded."""
    rng, numbers = np.random.default_rng(seed), np.asarray(labels)
    drawn = [rng.permutation(np.flatnonzero(numbers == label))[: most or None] for label in range(max(labels) + 1)]
    kept, images = set(np.concatenate(drawn).tolist()), []
    for place, value in enumerate(rows(files, about.image, about.repo)):
        if place in kept:
            content = value.get("bytes") if isinstance(value, dict) else value
            where = Path(f"{about.repo}, row {place}")
            if not isinstance(content, bytes):
                raise TaskError(f"{where}: column {about.image!r} holds no picture")
            images.append(decode(where, size, io.BytesIO(content)))
    return Pictures(channels_first(np.stack(images)), torch.from_numpy(numbers[sorted(kept)]))

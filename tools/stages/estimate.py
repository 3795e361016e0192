"""How long a study will take on this machine, and what it will fetch: said before it begins.

`python -m tools.stages.estimate STUDY` asks the servers how large the missing data sets are, and measures a
training step, the rest of learning a task, and a test picture of every method, on random pictures of the right size.
All else is counted. It loads the study's CLIP, and so fetches it if it is not there.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import requests
import torch

from lib.data import folders, frozen, tasks
from lib.data.tasks import Pictures, ReferenceSet, Task
from lib.methods.base import Lesson, TrainSettings
from lib.study import open_study, params, plan, studies
from lib.study.log import minutes
from lib.study.opened import OpenStudy
from lib.study.studies import ROOT
from lib.study.train import learn_task
from tools.datasets.catalogue import Entry, catalogue

TESTED = 32  # random pictures
FEW, MORE = 1, 3  # training steps of two tasks; one before them is not counted, because the first is always slow
TIMEOUT = 15  # seconds to wait for a server


@dataclass(frozen=True)
class Size:
    """How many classes a task has, and how many pictures for training and for tests."""

    classes: int
    train: int
    test: int


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step, of the rest of learning a task, and of a test picture."""

    step: float
    rest: float
    picture: float


def sizes(study: params.Study, root: Path = ROOT) -> dict[str, Size]:
    """The size of each task, by the catalogue or the folders. Raises TaskError for folders that cannot be used."""
    found = {}
    for name in tasks.names(study.tasks):
        if study.tasks.source == "datasets":
            entry, most = catalogue(name), study.tasks.per_class(name)
            of_class = [[count / len(entry.classes)] * len(entry.classes) for count in (entry.train, entry.test)]
        else:
            home, most = root / study.tasks.root / name, study.tasks.per_class(name)
            split = [folders.subfolders(home / part, 2, str(home)) for part in tasks.SPLITS]
            of_class = [[len(folders.picture_files(folder)) for folder in part] for part in split]
        train, test = (round(sum(min(n, limit or n) for n in part)) for part, limit in zip(of_class, most, strict=True))
        found[name] = Size(len(of_class[0]), train, test)
    return found


def missing(study: params.Study, root: Path = ROOT) -> dict[str, int | None]:
    """The bytes to fetch for each data set that is not there; None if a server does not say."""
    wanted = tasks.names(study.tasks) if study.tasks.source == "datasets" else []
    gone = [
        n
        for n in wanted
        if any(not (root / study.tasks.root / catalogue(n).folder / x).exists() for x in catalogue(n).needs)
    ]
    return {name: _bytes(catalogue(name)) for name in gone}


def _bytes(entry: Entry) -> int | None:
    if entry.copy:
        return round(entry.copy.gigabytes * 1e9)
    addresses = [file.url for file in entry.files]
    try:
        answers = [requests.head(address, allow_redirects=True, timeout=TIMEOUT) for address in addresses]
        for answer in answers:
            answer.raise_for_status()
        return sum(int(answer.headers["Content-Length"]) for answer in answers)
    except (requests.RequestException, KeyError, ValueError):
        return None


def speed(study: OpenStudy, run: str, classes: int) -> Speed:
    """Measures a run's method on small tasks of random pictures with so many classes."""
    method, train = study.method(run), study.params.train
    side, generator = study.backbone.image_size, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * classes, 3, side, side), dtype=torch.uint8, generator=generator)
    pictures, templates = Pictures(images, torch.arange(2 * classes) % classes), study.params.tasks.templates
    names, few = [f"thing {number}" for number in range(classes)], pictures.at(torch.arange(min(TESTED, len(images))))
    task = Task("measured", names, templates or ["a photo of a {}."], pictures, few)
    features, times = frozen.compute(study.backbone, task, study.params.selector.features), []
    captions, named = study.backbone.tokenizer(task.prompts("a {}")), torch.zeros(classes, dtype=torch.bool)
    reference = ReferenceSet(images[:classes], captions, named)  # the study's own is not there yet
    method.context = replace(method.context, reference=lambda: reference, reference_features=lambda: features.train)
    for number, steps in enumerate((FEW, FEW, MORE)):
        settings = replace(train, steps=steps, warmup=0, epochs=0, batch=train.batch)
        with _timed(times), contextlib.redirect_stdout(io.StringIO()):
            learn_task(method, Lesson(task, number, features, [0, number]), settings, study.params.compute.precision)
    with _timed(times):
        method.predict(task, features, 0)
    _, short, long, predicted = times
    step = max(0.0, (long - short) / (MORE - FEW))
    return Speed(step, max(0.0, short - FEW * step), predicted / len(few))


@contextlib.contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    began = time.monotonic()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append(time.monotonic() - began)


def seconds(study: params.Study, keys: list[str], speeds: dict[str, Speed], sized: dict[str, Size]) -> float:
    """How long learning stages take one after the other, at most: answers that did not change are counted, too."""
    total, plans = 0.0, plan.items(study)
    for key in keys:
        item, train = plans[key], study.train
        special = params.special(study, item.run)
        learned = [sized[name] for name in study.tasks.orders[item.order]]
        measured, tested = speeds[item.run], sum(size.test for size in learned)
        for size in learned:
            total += measured.rest + steps_of(train, size, special) * measured.step + tested * measured.picture
    return total


def steps_of(train: TrainSettings, size: Size, special: dict[str, int]) -> int:
    """The training steps of a task, as lib.study.train counts them."""
    pictures = size.classes * special["shots"] or size.train
    return train.epochs * max(1, pictures // train.batch) if train.epochs else special["steps"] or train.steps


def in_words(gone: dict[str, int | None]) -> str:
    """What will be fetched."""
    if not gone:
        return "all data sets are there"
    each = [f"{name} {size / 1e6:.0f} MB" if size else f"{name} (size unknown)" for name, size in gone.items()]
    return f"to fetch: {', '.join(each)}; {sum(size or 0 for size in gone.values()) / 1e9:.1f} GB in all"


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.stages.estimate", description="How long a study will take.")
    parser.add_argument("study", help="a file of studies/ without its ending")
    parser.add_argument("stages", nargs="*", help="learning stages, such as finetune--I--s0; none = the main story")
    parser.add_argument("--jobs", type=int, default=1, help="stages side by side")
    asked = parser.parse_args()
    try:
        study = params.load(studies.file_of(asked.study))
        if study.tasks.source not in ("datasets", "folder"):
            raise ValueError(f"the pictures of {asked.study} are not counted before they are made")
        sized = sizes(study)
        print(in_words(missing(study)), flush=True)
        opened, keys = open_study(study), asked.stages or plan.main_story(study)
        runs = dict.fromkeys(plan.find(study, key).run for key in keys)
        classes = round(fmean(size.classes for size in sized.values()))
        speeds = {run: speed(opened, run, classes) for run in runs}
    except (ValueError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for run, each in speeds.items():
        print(f"{run}: {each.step:.2f} s a step, {1000 * each.picture:.0f} ms a test picture, measured now")
    whole = seconds(study, keys, speeds, sized) / asked.jobs
    print(f"about {minutes(whole)} for {len(keys)} runs, {asked.jobs} at a time on this machine", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

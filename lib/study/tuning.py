"""Choosing each method's numbers: the same small budget for all, on a validation cut of the first two tasks.

`python -m lib.study.tuning [METHOD ...]` tries every value of a method's grid (params `tuning`); a fifth of the two tasks'
*training* pictures is kept out and scored. The score is the Average of the 2 x 2 accuracy matrix by the per-picture
decision, in percent: learning, keeping and zero-shot count alike. No test picture is ever seen.

A few hundred pictures cannot tell near values apart. So by the one-standard-error rule (Breiman et al. 1984) the
first value of the grid that is within one standard error of the best is chosen, and grids begin with the value
that changes CLIP least. What came out is in reports/tuning/<study>/<method>.json; the params take it over by hand,
and a test holds the two together. Values that were tried by the same code and numbers are not tried again.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from lib.clip.backbone import Backbone
from lib.data import frozen as features
from lib.data.tasks import Pictures
from lib.methods import method_class
from lib.methods.base import Lesson
from lib.metrics import average
from lib.study import code_digests as sources
from lib.study import params
from lib.study.evaluate import evaluate, zero_shot_row
from lib.study.opened import OpenStudy
from lib.study.paths import REPORTS
from lib.study.results import write_json
from lib.study.train import learn_task

SHARE = 5  # one picture of so many is kept out
TAG = 11  # of the random stream that cuts


def validation(backbone: Backbone, lesson: Lesson) -> Lesson:
    """The lesson with a fifth of its training pictures as its test split, and the rest to train on."""
    rng = np.random.default_rng([*lesson.seed, TAG])
    order = torch.from_numpy(rng.permutation(len(lesson.task.train)))
    held, used = order[: len(order) // SHARE], order[len(order) // SHARE :]
    train, told = lesson.task.train, lesson.features
    splits = [Pictures(train.images[index], train.labels[index]) for index in (used, held)]
    task = replace(lesson.task, train=splits[0], test=splits[1])
    image = told.image_train[held]
    answers = features.zero_shot(backbone, task, image)
    known = features.Features(answers, told.train[used], told.train[held], told.image_train[used], image)
    return replace(lesson, task=task, features=known)


def score(study: params.Study, method: str, changes: dict[str, Any]) -> tuple[float, int]:
    """Average in percent over the first two tasks' validation cuts with some settings changed, and their pictures."""
    seed, order = 0, next(iter(study.tasks.orders))
    opened = OpenStudy(study)
    curriculum = opened.curriculum(method, order, seed)
    lessons = [validation(opened.backbone, lesson) for lesson in curriculum.lessons[:2]]
    torch.manual_seed(seed)
    pupil = method_class(method)(opened.context(), study.methods[method] | changes)
    tasks, known = [lesson.task for lesson in lessons], [lesson.features for lesson in lessons]
    rows = [zero_shot_row(tasks, known, pupil.decisions)]
    for number in range(2):
        lesson = pupil.lesson(lessons, number)
        if lesson is not None:
            learn_task(pupil, lesson, curriculum.train, study.compute.precision)
        rows.append(evaluate(pupil, tasks, known, number, rows[-1]))
    pictures = sum(len(task.test) for task in tasks)
    return round(average([row.accuracy["sample"] for row in rows[1:]]), 2), pictures


def choose(scores: list[float], pictures: int) -> tuple[int, float]:
    """The place of the first score (percent) within one standard error of the best, and that error in points."""
    share = max(scores) / 100
    error = 100 * (share * (1 - share) / pictures) ** 0.5
    return next(i for i, value in enumerate(scores) if value >= max(scores) - error), round(error, 2)


def tune(file: str, method: str) -> dict[str, Any]:
    """Tries the grid of one method; returns what was tried and what is chosen."""
    study = params.load(file)
    ((name, values),) = study.tuning[method].items()
    others = {key: value for key, value in study.methods[method].items() if key != name}
    known = {"code": sources.of_method(method), "train": asdict(study.train), "settings": others}
    report = REPORTS / "tuning" / study.study / f"{method}.json"
    held = json.loads(report.read_text()) if report.exists() else {}
    tried = held.get("scores", {}) if held.get("known") == known else {}
    pictures, content = held.get("pictures", 0), held
    for value in values:
        if str(value) not in tried:
            tried[str(value)], pictures = score(study, method, {name: value})
            print(f"{method}: {name} = {value}: {tried[str(value)]} %", flush=True)
        place, error = choose([tried[str(v)] for v in values if str(v) in tried], pictures)
        content = {"study": study.study, "method": method, "number": name, "chosen": values[place]}
        content |= {"scores": tried, "standard_error": error, "pictures": pictures, "known": known}
        write_json(report, content)
    return content


def main(methods: list[str], file: str = "params.yaml", workers: int = 2) -> None:
    """Tunes some methods, or all that have a grid, side by side."""
    study = params.load(file)
    unknown = set(methods) - set(study.tuning)
    if unknown:
        sys.exit(f"error: no grid for {', '.join(sorted(unknown))}; there are: {', '.join(study.tuning)}")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(tune, file, method) for method in methods or study.tuning]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main(sys.argv[1:])

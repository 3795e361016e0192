"""Chooses each method's settings: the same small budget for all, on a validation cut of the first two tasks.

`python -m lib.study.tuning [METHOD ...]` tries every value of a method's grid (params `tuning`) on the first two tasks.
A fifth of their *training* pictures is held out and scored; no test picture is used. The score is the Average of the
2 x 2 accuracy matrix by the per-picture decision: learning, remembering and zero-shot ability count alike. Few pictures
cannot tell close values apart, so the one-standard-error rule (Breiman et al. 1984) chooses the first value within one
standard error of the best; a grid begins with the value that changes CLIP least.

Scores and choice are written to reports/tuning/<study>/<method>.json and copied to the params by hand; a test compares
the two. What the same code and the same numbers have scored before is not scored again.
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
from lib.data.frozen import Features, zero_shot
from lib.data.tasks import Pictures
from lib.files import write_json
from lib.methods import method_class
from lib.methods.base import Lesson
from lib.metrics import average
from lib.study import code_digests
from lib.study.opened import OpenStudy, open_study
from lib.study.train import evaluate, learn_task, zero_shot_row

HELD_OUT = 5  # one picture in so many
STREAM = 11  # the random stream that draws them


def validation(backbone: Backbone, lesson: Lesson) -> Lesson:
    """The lesson with a fifth of its training pictures as its test split, and the others as its training split."""
    train, before = lesson.task.train, lesson.features
    order = torch.from_numpy(np.random.default_rng([*lesson.seed, STREAM]).permutation(len(train)))
    held, used = order[: len(order) // HELD_OUT], order[len(order) // HELD_OUT :]
    used_pictures, held_pictures = (Pictures(train.images[index], train.labels[index]) for index in (used, held))
    task, image = replace(lesson.task, train=used_pictures, test=held_pictures), before.image_train[held]
    answers = zero_shot(backbone, task, image)
    features = Features(answers, before.train[used], before.train[held], before.image_train[used], image)
    return replace(lesson, task=task, features=features)


def score(study: OpenStudy, method: str, changes: dict[str, Any]) -> tuple[float, int]:
    """The Average (percent) on the validation cuts of two tasks with some settings changed, and their pictures."""
    curriculum = study.curriculum(method, study.main_order, 0)
    lessons = [validation(study.backbone, lesson) for lesson in curriculum.lessons[:2]]
    torch.manual_seed(0)
    learner = method_class(method)(study.context(), study.params.methods[method] | changes)
    tasks, features = [lesson.task for lesson in lessons], [lesson.features for lesson in lessons]
    rows = [zero_shot_row(tasks, features, learner.decisions)]
    for number in range(2):
        lesson = learner.lesson(lessons, number)
        if lesson is not None:
            learn_task(learner, lesson, curriculum.train, study.params.compute.precision)
        rows.append(evaluate(learner, tasks, features, number, rows[-1]))
    return round(average([row.accuracy["sample"] for row in rows[1:]]), 2), sum(len(task.test) for task in tasks)


def choose(scores: list[float], pictures: int) -> tuple[int, float]:
    """The index of the first score (percent) within one standard error of the best, and that error in points."""
    share = max(scores) / 100
    error = 100 * (share * (1 - share) / pictures) ** 0.5
    return next(i for i, value in enumerate(scores) if value >= max(scores) - error), round(error, 2)


def tune(study: OpenStudy, method: str) -> dict[str, Any]:
    """Tries the grid of one method; returns the scores and the choice, as they are written."""
    ((name, values),) = study.params.tuning[method].items()
    others = {key: value for key, value in study.params.methods[method].items() if key != name}
    inputs = {"code": code_digests.of_method(method), "train": asdict(study.params.train), "settings": others}
    file = study.reports / "tuning" / study.name / f"{method}.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    scores = content.get("scores", {}) if content.get("known") == inputs else {}
    pictures = content.get("pictures", 0)
    for value in values:
        if str(value) not in scores:
            scores[str(value)], pictures = score(study, method, {name: value})
            print(f"{method}: {name} = {value}: {scores[str(value)]} %", flush=True)
        index, error = choose([scores[str(v)] for v in values if str(v) in scores], pictures)
        content = {"study": study.name, "method": method, "number": name, "chosen": values[index], "scores": scores}
        content |= {"standard_error": error, "pictures": pictures, "known": inputs}
        write_json(file, content)
    return content


def _tune_default(method: str) -> None:
    tune(open_study(), method)


def main(methods: list[str]) -> None:
    """Tunes some methods, or all that have a grid, in two processes side by side."""
    grids = open_study().params.tuning
    if unknown := set(methods) - set(grids):
        sys.exit(f"error: no grid for {', '.join(sorted(unknown))}; there are: {', '.join(grids)}")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_tune_default, methods or grids))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Chooses each method's number by one rule, on held-out training pictures of three tasks.

`python -m lib.study.tuning [METHOD ...]` tries every value of a method's grid (params `tuning`) on the tasks of order
`tuning_order`, with seeds that no run has. A fifth of the tasks' *training* pictures is held out and scored; no test
picture is used. The score is the Average of the accuracy matrix, per picture, the mean of all label spaces and seeds:
learning, remembering and zero-shot ability count alike. The prior of `beyond` trades Transfer for Average, and it aims
at both and at Last, so its score is the mean of the three. The best mean is chosen. Grids have four values each; while
the best value lies at an end, a further one is added there by hand. `selector` tunes the selector with the main method.

Scores, choice and the standard error of each value's paired difference to the best are written to
reports/tuning/<study>/<method>.json; the choice is copied to the params by hand, and a test compares the two. What the
same code and the same numbers have scored before is not scored again.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from lib.clip.backbone import Backbone
from lib.data.frozen import Features, zero_shot
from lib.data.scenarios import LabelSpace
from lib.data.tasks import Pictures
from lib.files import write_json
from lib.methods import method_class
from lib.methods.base import Lesson
from lib.metrics import average, last, transfer
from lib.study import code_digests
from lib.study.opened import OpenStudy, open_study
from lib.study.train import evaluate, learn_task, zero_shot_row

HELD_OUT = 5  # one picture in so many
STREAM = 11  # the random stream that draws them
SEEDS = (100, 101)  # no run of the comparison has these
SELECTOR = "selector"  # the grid of the selector's own number
METHOD = "moe_adapters"  # with which it is tuned
SCORED = {"beyond": (transfer, average, last)}  # the others: Average


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


def score(study: OpenStudy, name: str, changes: dict[str, Any], seed: int) -> float:
    """The Average (percent) on the validation cuts with some settings of a method, or of the selector, changed."""
    method, context = METHOD if name == SELECTOR else name, study.context()
    settings = study.params.methods[method]
    if name == SELECTOR:
        context = replace(context, selector=replace(context.selector, **changes))
    else:
        settings = settings | changes
    lessons = [validation(study.backbone, lesson) for lesson in study.lessons_of(study.params.tuning_order, seed)]
    torch.manual_seed(seed)
    learner = method_class(method)(context, settings)
    tasks, features = [lesson.task for lesson in lessons], [lesson.features for lesson in lessons]
    space = LabelSpace(study.params.tasks.labels, study.backbone, tasks, features)
    rows = [zero_shot_row(space.after(0), learner.decisions)]
    for number in range(len(lessons)):
        if (lesson := learner.lesson(lessons, number)) is not None:
            learn_task(learner, lesson, study.params.train, study.params.compute.precision)
        rows.append(evaluate(learner, space.after(number), number, rows[-1]))
    matrices = [[row.accuracy[f"{prefix}sample"] for row in rows[1:]] for prefix in space.after(0)]
    return round(float(np.mean([metric(matrix) for metric in SCORED.get(name, (average,)) for matrix in matrices])), 2)


def choose(scores: dict[str, list[float]]) -> tuple[str, dict[str, float]]:
    """The value with the best mean of its scores (percent, by seed), and each value's standard error in points.

    The error is that of the mean paired difference to the best. At a tie the first value is chosen.
    """
    best = max(scores, key=lambda value: np.mean(scores[value]))
    gaps = {value: np.subtract(own, scores[best]) for value, own in scores.items()}
    return best, {value: round(float(gap.std(ddof=1) / len(gap) ** 0.5), 2) for value, gap in gaps.items()}


def tune(study: OpenStudy, name: str) -> dict[str, Any]:
    """Tries the grid of one method, or of the selector; returns the scores and the choice, as they are written."""
    ((number, values),) = study.params.tuning[name].items()
    method, selector = METHOD if name == SELECTOR else name, asdict(study.params.selector)
    settings = study.params.methods[method] | ({} if name == SELECTOR else {number: None})
    selector |= {number: None} if name == SELECTOR else {}
    inputs = {"code": code_digests.of_method(method), "train": asdict(study.params.train), "settings": settings}
    inputs |= {"selector": selector, "tasks": study.params.tasks.orders[study.params.tuning_order]}
    file = study.reports / "tuning" / study.name / f"{name}.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    scores = content.get("scores", {}) if content.get("inputs") == inputs else {}
    for value in map(str, values):
        if value in scores:
            continue
        changes = {number: values[[*map(str, values)].index(value)]}
        scores[value] = [score(study, name, changes, seed) for seed in SEEDS]
        print(f"{name}: {number} = {value}: {scores[value]} %", flush=True)
        chosen, errors = choose({v: scores[v] for v in map(str, values) if v in scores})
        content = {"study": study.name, "method": name, "number": number, "chosen": json.loads(chosen)}
        content |= {"scores": scores, "standard_errors": errors, "seeds": [*SEEDS], "inputs": inputs}
        write_json(file, content)
    return content


def _tune_in(file: str, name: str) -> None:
    tune(open_study(file), name)


def main(methods: list[str], file: str = "params.yaml") -> None:
    """Tunes some methods, or all that have a grid, in two processes side by side."""
    grids = open_study(file).params.tuning
    if unknown := set(methods) - set(grids):
        sys.exit(f"error: no grid for {', '.join(sorted(unknown))}; there are: {', '.join(grids)}")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_tune_in, file), methods or grids))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The pictures of the report: what is shown of each is what the evaluation computes, and mistakes come first."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from lib.selector import CLIP
from lib.study.walk import RIGHT, WRONG, walk
from tests.support import small_run, small_study


def test_what_is_shown_is_what_the_evaluation_computes(tmp_path: Path) -> None:
    small_study.prepare(tmp_path)
    study = small_study.open_at(tmp_path, small_run.study())
    study.learn(small_run.KEY)
    shown = walk(study.stage(small_run.KEY))
    assert json.loads(json.dumps(shown)) == shown
    stage = study.stage(small_run.KEY)
    method = stage.finished()
    (tasks, features), *_ = reversed(stage.curriculum.space.after(len(shown["tasks"]) - 1).values())
    assert shown["tasks"] == [task.name for task in tasks]
    assert [each["right"] for each in shown["pictures"]] == sorted(each["right"] for each in shown["pictures"])
    for number, (task, held) in enumerate(zip(tasks, features, strict=True)):
        mine = [each for each in shown["pictures"] if each["task"] == number]
        assert sum(not each["right"] for each in mine) <= WRONG
        assert sum(each["right"] for each in mine) <= RIGHT
        answers = method.predict(task, held, number)
        for each in mine:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(each["png"]))))
            place = next(
                i for i, image in enumerate(task.test.images) if (image.permute(1, 2, 0).numpy() == pixels).all()
            )
            route, answer = int(answers.routes["sample"][place]), task.classes[answers.classes["sample"][place]]
            assert each["route"] == (len(tasks) if route == CLIP else route)
            assert each["answers"][each["route"]] == answer
            assert each["right"] == (answer == each["name"])
            assert each["answers"][-1] == task.classes[held.zero_shot[place]]

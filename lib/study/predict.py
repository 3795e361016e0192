"""Answers for a reader's own pictures, by a finished run of `beyond`: the name, how sure, who answered and why.

`python -m lib.study.predict FOLDER --names "the cat, the violin"` prints a table; `--json` prints JSON. Pictures are
PNG or JPEG. Names that were learned are answered by what was learned; all others by the frozen CLIP. Without names the
candidates are all learned ones.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.data import folders, frozen
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task, TaskError, channels_first
from lib.methods.beyond import Beyond, Places, Posterior
from lib.settings import ParamsError
from lib.study import params, plan, studies
from lib.study.opened import OpenStudy, open_study

METHOD = "beyond"


def finished(study: OpenStudy, key: str = "") -> tuple[Beyond, list[Task]]:
    """The method of a finished run, and the tasks that it learned. key: "" = the first of `beyond` with a checkpoint.

    Raises ParamsError if there is none.
    """
    runs = {key: plan.find(study.params, key)} if key else plan.items(study.params)
    for name, item in runs.items():
        folder = study.root / item.checkpoint
        if item.method == METHOD and (key or folder.exists()):
            stage = study.stage(name)
            method: Any = stage.finished()
            return method, [lesson.task for lesson in stage.curriculum.lessons]
    command = f"dvc repro learn@{METHOD}--{study.main_order}--s0"
    raise ParamsError(f"study {study.name} has no finished run of {METHOD} to answer with; `{command}` makes one")


def candidates(tasks: list[Task], names: list[str]) -> tuple[list[str], Places]:
    """All learned names and then the others of `names`; and where each task's classes (C,) stand among them."""
    learned = [name for task in tasks for name in task.classes]
    listed = list(dict.fromkeys([*learned, *names]))
    return listed, {t: torch.tensor([listed.index(name) for name in task.classes]) for t, task in enumerate(tasks)}


def ask(
    study: OpenStudy, method: Beyond, tasks: list[Task], pictures: Tensor, names: list[str], clip: bool = False
) -> tuple[list[str], Posterior, Features]:
    """The candidates, the chances of pictures (N, 3, H, W) uint8 over them, and what the frozen CLIP says of these.

    clip: CLIP answers alone.
    """
    listed, places = candidates(tasks, names)
    zero = torch.zeros(len(pictures), dtype=torch.long)
    nothing = Pictures(pictures[:0], zero[:0])
    task = Task("pictures", listed, tasks[0].templates, nothing, Pictures(pictures, zero), places)
    pooled, image = frozen.of_pictures(study.backbone, pictures, study.params.selector.features)
    features = Features(zero, pooled[:0], pooled, image[:0], image)
    return listed, method.posterior(task, features, {} if clip else places), features


@torch.no_grad()
def predict(study: OpenStudy, pictures: Tensor, names: list[str], key: str = "") -> pd.DataFrame:
    """One line a picture of (N, 3, H, W) uint8: the answer among `names`, its chance, the runner-up, and who answered.

    One forward of the frozen CLIP and one of the routers, each picture by its own. Raises ParamsError without a run.
    """
    method, tasks = finished(study, key)
    listed, found, features = ask(study, method, tasks, pictures, names)
    wanted = [listed.index(name) for name in names or listed]
    scores = found.scores(len(listed))[:, wanted]
    if not (some := scores.sum(dim=1, keepdim=True) > 0).all():  # so surely learned that other names have no chance
        strangers = ask(study, method, tasks, pictures, names, clip=True)[1].scores(len(listed))[:, wanted]
        scores = torch.where(some, scores, strangers)
    scores = scores / scores.sum(dim=1, keepdim=True)
    return table(scores, [listed[i] for i in wanted], found, method, features, tasks)


def table(
    scores: Tensor, names: list[str], found: Posterior, method: Beyond, features: Features, tasks: list[Task]
) -> pd.DataFrame:
    """The lines of `predict`, from the chances (N, C) of the names."""
    chances, order = scores.sort(dim=1, descending=True)
    judged, owners = method.looks.judge(features.test), {name: task.name for task in tasks for name in task.classes}
    looks = judged.unknown.argmax(dim=1).tolist()
    lines = []
    for row, (first, *others) in enumerate(order.tolist()):
        name, look = names[first], "unknown" if judged.strange[row] else tasks[looks[row]].name
        by = "CLIP" if look == "unknown" else f"CLIP, moved from {look}"
        if name in owners:
            asked = owners[name] == tasks[int(found.asked[row])].name
            by = f"{'router' if asked else 'regression'} of {owners[name]}"
        line = {"answer": name, "chance": round(float(chances[row, 0]), 3), "answered by": by}
        line |= {"learned": round(float(found.learned[row]), 3), "look": look}
        second = {"runner-up": names[others[0]], "its chance": round(float(chances[row, 1]), 3)} if others else {}
        lines.append(line | second)
    return pd.DataFrame(lines)


def read(folder: Path, size: int) -> tuple[list[str], Tensor]:
    """The file names and the pictures (N, 3, size, size) uint8 of a folder. Raises TaskError."""
    if not folder.is_dir():
        raise TaskError(f"{folder} is no folder; give one with pictures ({', '.join(folders.ENDINGS)})")
    files = folders.picture_files(folder)
    return [file.name for file in files], channels_first(np.stack([folders.decode(file, size) for file in files]))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.predict", description="Answers for your own pictures.")
    parser.add_argument("pictures", type=Path, help="a folder with PNG or JPEG files")
    parser.add_argument("--names", default="", help="class names, with commas between them; else all learned ones")
    parser.add_argument("--study", default="mini", help="mini, or a file of studies/ without its ending")
    parser.add_argument("--run", default="", help="a finished run of beyond, such as beyond--I--s0")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    asked = parser.parse_args()
    try:
        study = open_study(params.load(studies.file_of(asked.study)))
        files, pictures = read(asked.pictures, study.backbone.image_size)
        names = list(dict.fromkeys(name.strip() for name in asked.names.split(",") if name.strip()))
        found = predict(study, pictures, names, asked.run)
    except ValueError as error:
        sys.exit(f"error: {error}")
    found.insert(0, "picture", files)
    print(found.to_json(orient="records", indent=1) if asked.json else found.to_string(index=False))


if __name__ == "__main__":
    main()

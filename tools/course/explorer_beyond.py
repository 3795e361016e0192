"""The explorer's view of the method beyond the paper: chances of names and tasks, no errors and thresholds."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.data.tasks import Task
from lib.methods.beyond import Beyond
from lib.report import figures
from lib.selector import CLIP
from lib.study import OpenStudy, predict

MOST = 6  # names that are shown


@torch.no_grad()
def draw(study: OpenStudy, run: tuple[Beyond, list[Task]], picture: Tensor, truth: str, names: list[str]) -> Figure:
    """A uint8 picture (3, H, W), the likeliest names, and the tasks that they belong to.

    run: of lib.study.predict.finished. truth: the picture's name, "" if unknown. names: further candidates, which were
    not learned.
    """
    method, tasks = run
    listed, found, features = predict.ask(study, method, tasks, picture[None], names)
    scores, judged = found.scores(len(listed))[0], method.looks.judge(features.test)
    chances = torch.zeros(len(tasks) + 1).double().index_add_(0, found.owners % (len(tasks) + 1), found.chances[0])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
    left.imshow(picture.permute(1, 2, 0).numpy())
    left.set_title(truth, loc="left")
    left.set_axis_off()
    best = scores.argsort(descending=True)[:MOST].flip(0).tolist()
    middle.barh(
        [listed[i] for i in best], [100 * float(scores[i]) for i in best], color=figures.BLUE, edgecolor="black"
    )
    middle.set(xlim=(0, 100), xlabel="chance (%)")
    middle.set_title(f"which of {len(listed)} names?", loc="left")
    asked = int(found.asked[0])
    owners = [*(task.name for task in tasks), "not learned"]
    bars = right.barh(owners, (100 * chances).tolist(), color="0.8", edgecolor="black")
    if asked != CLIP:
        bars[asked].set(facecolor=figures.BLUE, hatch="//")
    right.invert_yaxis()
    right.set(xlim=(0, 100), xlabel="chance (%) (hatched: its router was asked)")
    look = "of no task" if judged.strange[0] else f"that of {tasks[int(judged.unknown[0].argmax())].name}"
    right.set_title(f"of which task? The look is {look}", loc="left", fontsize=9)
    return figure

"""The explorer: the method's view of one picture after each task, from the checkpoints that the study wrote."""

import json
from dataclasses import asdict, dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.moe_adapters import MoEAdapters
from lib.methods.scoring import logits
from lib.moe import Encoded
from lib.report import figures
from lib.selector import CLIP, selector_features
from lib.study import OpenStudy, checkpoint, params, plan
from lib.study.checkpoint import CheckpointError

METHOD = "moe_adapters"


@dataclass(frozen=True)
class Moment:
    """The method after it has learned some tasks, in their order."""

    learned: list[str]
    method: MoEAdapters


@dataclass(frozen=True)
class View:
    """One picture at one moment.

    errors, thresholds: the selector's (T,). reference: the error of "none of the tasks", infinite without one. route:
    the number of a learned task, or CLIP. gates: of each tower (blocks, E), empty where CLIP answers. method,
    zero_shot: the probabilities (C,) of the classes.
    """

    errors: Tensor
    thresholds: Tensor
    reference: float
    route: int
    gates: dict[str, Tensor]
    method: Tensor
    zero_shot: Tensor


def orders(study: OpenStudy) -> dict[str, str]:
    """For each order that the study learns with the unchanged method, the first run that does.

    A run that keeps a checkpoint of every task has a moment after each; other runs only have the end.
    """
    runs: dict[str, str] = {}
    usual = study.params.runs[METHOD].set
    for run, settings in study.params.runs.items():
        if params.method_of(run) == METHOD and settings.set == usual:
            for order in settings.orders or [study.main_order]:
                runs.setdefault(order, run)
    return runs


def moments(study: OpenStudy, order: str) -> list[Moment]:
    """An order's moments with its first seed. Raises CheckpointError, with the command to run, if one is missing."""
    run, shown = orders(study)[order], []
    item = plan.find(study.params, f"{run}--{order}--s{study.params.runs[run].seeds[0]}")
    for folder in item.moments:
        if not (study.root / folder).exists():
            advice = "`make study` makes those of the main order, `dvc repro` the others"
            raise CheckpointError(f"there is no checkpoint {folder}; {advice}")
        method = study.method(item.run, item.seed)
        assert isinstance(method, MoEAdapters)
        settings = json.loads(json.dumps(asdict(method.settings)))
        about, state = checkpoint.load(study.root / folder, study.backbone.fingerprint, item.run, settings)
        method.restore(state)
        shown.append(Moment(about.tasks, method))
    return shown


@torch.no_grad()
def views(study: OpenStudy, moments: list[Moment], picture: Tensor, task: Task) -> list[View]:
    """The views of a uint8 picture (3, H, W) at each moment, among the classes of a task."""
    pixels = study.backbone.pixels(picture[None])
    # the frozen CLIP is asked once: its answer is the same at every moment
    kept = selector_features(study.backbone, study.params.selector.features)(pixels)
    token = moments[0].method.seen_by_selector(picture[None], kept)
    zero_shot = _shares(study, study.backbone.model.encode_image(pixels), class_features(study.backbone, task))
    return [_view(study, moment, pixels, token, zero_shot, task) for moment in moments]


def _view(study: OpenStudy, moment: Moment, pixels: Tensor, token: Tensor, zero_shot: Tensor, task: Task) -> View:
    model, selector = moment.method.model, moment.method.selector
    assert selector is not None  # it learns with every task
    route = int(selector.decide(token).sample[0])
    gates: dict[str, Tensor] = {}
    answer = zero_shot
    if route != CLIP:
        image = model.encode_image(pixels, route, whole=False)
        gates["image"] = _gates(image)

        def encode_text(tokens: Tensor) -> Tensor:
            text = model.encode_text(model.prepare(tokens), route)
            gates["text"] = _gates(text)
            return text.features

        names = zero_shot_classifier(encode_text, study.backbone.tokenizer, task.classes, task.templates)
        answer = _shares(study, image.features, names)
    reference = torch.inf if selector.reference is None else float(selector.reference(token))
    return View(selector.errors(token)[0], selector.thresholds, reference, route, gates, answer, zero_shot)


def _gates(encoded: Encoded) -> Tensor:
    """The gates (blocks, E) of the first sample."""
    return torch.stack([routing.gates[0] for routing in encoded.routings.values()])


def _shares(study: OpenStudy, image: Tensor, names: Tensor) -> Tensor:
    return logits(image, names, study.backbone.model.logit_scale).softmax(dim=1)[0]


def mistakes(moment: Moment, task: Task, features: Features) -> list[int]:
    """The places of a task's test pictures that the method answers wrongly among the task's own classes."""
    answers = moment.method.predict(task, features, len(moment.learned)).classes["sample"]
    return (answers != task.test.labels).nonzero().flatten().tolist()


def thumbnails(task: Task, first: int, wrong: list[int], count: int = 12) -> Figure:
    """Some test pictures in a row from number `first` on, with their numbers; a cross marks a wrong answer."""
    places = list(range(first, min(first + count, len(task.test))))
    figure, axes = plt.subplots(figsize=(13, 1.7))
    names = [f"{place} {task.classes[task.test.labels[place]]}{' ✗' if place in wrong else ''}" for place in places]
    figures.pictures(task.test.images[places].permute(0, 2, 3, 1).numpy(), names, "from here on", axes, count)
    return figure


def draw(picture: Tensor, task: Task, label: int | None, moments: list[Moment], views: list[View]) -> Figure:
    """A picture at the last moment (answers, selector errors, gates), and its probability at each moment.

    views: one for each moment. label: the picture's class, None if it is unknown.
    """
    learned = moments[-1].learned
    figure = plt.figure(figsize=(13, 8.5), layout="constrained")
    grid = figure.subplot_mosaic(
        [["picture", "answers", "errors"], ["image", "image", "text"], ["time", "time", "time"]],
        height_ratios=[2.2, 1.6, 1.6],
    )
    grid["picture"].imshow(picture.permute(1, 2, 0).numpy())
    grid["picture"].set_title("" if label is None else task.classes[label], loc="left")
    grid["picture"].set_axis_off()
    _answers(grid["answers"], task, views[-1])
    _errors(grid["errors"], views[-1], learned)
    for tower in ("image", "text"):
        _route(grid[tower], tower, views[-1].gates.get(tower))
    _time(grid["time"], task, label, moments, views)
    return figure


def _answers(axes: Axes, task: Task, seen: View, most: int = 5) -> None:
    """The classes with the highest probabilities by the method or zero-shot."""
    shown = torch.maximum(seen.method, seen.zero_shot).argsort(descending=True)[:most].flip(0)
    rows = np.arange(len(shown))
    bars = partial(axes.barh, height=0.4, edgecolor="black")
    bars(rows + 0.2, 100 * seen.method[shown].numpy(), color=figures.BLUE, label="the method")
    bars(rows - 0.2, 100 * seen.zero_shot[shown].numpy(), color=figures.GREY, hatch="//", label="zero-shot")
    axes.set_yticks(rows, [task.classes[c] for c in shown.tolist()])
    axes.set(xlim=(0, 100), xlabel="probability (%)")
    axes.set_title(f"which of the {len(task.classes)} in {task.name}?", loc="left")
    axes.legend(fontsize=8)


def _errors(axes: Axes, seen: View, learned: list[str]) -> None:
    """Each task's error, and a tick at its threshold. The least error counts, and only its own threshold."""
    winner, rows = int(seen.errors.argmin()), np.arange(len(learned))
    colours = [figures.BLUE if t == seen.route else "0.8" for t in range(len(learned))]
    hatches = ["//" if t == winner else "" for t in range(len(learned))]
    axes.barh(learned, seen.errors.tolist(), color=colours, edgecolor="black", hatch=hatches)
    axes.vlines(seen.thresholds.tolist(), rows - 0.45, rows + 0.45, color="black", lw=2)
    axes.invert_yaxis()
    axes.set(xlabel="error (tick: the task's threshold; hatched: the least)", xlim=(0, None))
    axes.set_title(reason(seen, learned), loc="left", fontsize=9)


def reason(seen: View, learned: list[str]) -> str:
    """Who answers, and why."""
    winner = int(seen.errors.argmin())
    if seen.route != CLIP:
        return f"{learned[winner]} has the least error, below its threshold:\nits router answers"
    if seen.errors[winner] <= seen.thresholds[winner]:
        return f"{learned[winner]} has the least error, but the reference's is smaller:\nCLIP answers"
    below = [learned[t] for t in (seen.errors <= seen.thresholds).nonzero().flatten().tolist()]
    also = f"\n({', '.join(below)}: below its own threshold, but not the least)" if below else ""
    return f"{learned[winner]} has the least error, above its threshold:\nCLIP answers{also}"


def _route(axes: Axes, tower: str, gates: Tensor | None) -> None:
    """The gates of each block; none where the frozen CLIP answers."""
    axes.set_title(f"{tower} tower: gates", loc="left")
    if gates is None:
        axes.text(0.5, 0.5, "no router is asked", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    names = np.where(gates > 0, np.char.mod("%.2f", gates.numpy()), "")
    small = {"size": 8, "rotation": 90 if tower == "text" else 0}  # the text tower's drawing is half as wide
    shades = {"cmap": "cividis", "vmin": 0, "vmax": 1, "cbar": False}
    sns.heatmap(gates.numpy(), annot=names, fmt="", annot_kws=small, ax=axes, **shades)
    axes.set(xlabel="expert", ylabel="block")


def _time(axes: Axes, task: Task, label: int | None, moments: list[Moment], views: list[View]) -> None:
    """After each task, the probability of the true class (of the answer if it is unknown), and the answer."""
    answers = [int(seen.method.argmax()) for seen in views]
    sure = [100 * float(seen.method[a if label is None else label]) for a, seen in zip(answers, views, strict=True)]
    still = 100 * float(views[0].zero_shot.max() if label is None else views[0].zero_shot[label])
    axes.plot(range(len(views)), sure, "o-", color=figures.BLUE, label="the method")
    axes.axhline(still, color=figures.GREY, ls=":", label="zero-shot")
    for t, (answer, height, seen) in enumerate(zip(answers, sure, views, strict=True)):
        by = "CLIP" if seen.route == CLIP else moments[t].learned[seen.route]
        axes.text(t + 0.02, height + 4, f"{task.classes[answer]}\nby {by}", fontsize=8)
    axes.set_xticks(range(len(views)), [f"+ {moment.learned[-1]}" for moment in moments])
    axes.set(xlim=(-0.2, len(views) - 0.4), ylim=(-4, 135), yticks=[0, 50, 100], ylabel="probability (%)")
    axes.set_title("of its own answer" if label is None else f"of {task.classes[label]}, the truth", loc="left")
    axes.legend(fontsize=8, loc="upper left", ncols=2)

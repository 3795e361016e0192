"""The explorer: what the method says of one picture after each task, from the checkpoints that the study left."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data import frozen as features
from lib.data.tasks import Task
from lib.methods.base import logits
from lib.methods.moe_adapters import MoEAdapters
from lib.moe import Encoded
from lib.report import figures
from lib.selector import CLIP
from lib.study import checkpoint, params, plan
from lib.study import stage as learn
from lib.study.paths import ROOT
from tools.course.exercises import World

METHOD = "moe_adapters"


@dataclass(frozen=True)
class Moment:
    """The method after it has learned some tasks, in their order."""

    learned: list[str]
    method: MoEAdapters


@dataclass(frozen=True)
class View:
    """One picture at one moment: selector errors and thresholds (T,), the route (a task's number or CLIP), of each
    tower the gates (blocks, E) on its way, and the probabilities (C,) of the classes by the method and zero-shot."""

    errors: Tensor
    thresholds: Tensor
    route: int
    gates: dict[str, Tensor]
    method: Tensor
    zero_shot: Tensor


def orders(here: World) -> dict[str, str]:
    """The orders that the study learns with the method, and the run that does; the first one if there are several.

    Of a run that is learned by task there is a moment after every task, of another only the end.
    """
    found: dict[str, str] = {}
    usual = here.study.runs[METHOD].set
    for run, settings in here.study.runs.items():
        if params.method_of(run) == METHOD and settings.set == usual:
            for order in settings.orders or [plan.main_order(here.study)]:
                found.setdefault(order, run)
    return found


def moments(here: World, order: str) -> list[Moment]:
    """The moments of an order, the first seed's. Raises CheckpointError, saying what makes them, if one is missing."""
    run = orders(here)[order]
    seed = here.study.runs[run].seeds[0]
    found = []
    for item in plan.items(here.study).values():
        if (item.run, item.order, item.seed) != (run, order, seed):
            continue
        method: Any = learn.new_method(here.study, here.backbone, run, seed)
        if not (ROOT / item.checkpoint).exists():
            raise checkpoint.CheckpointError(
                f"there is no checkpoint {item.checkpoint}; `make study` learns the main order and leaves it, "
                "`make study-all` the others"
            )
        settings = json.loads(json.dumps(asdict(method.settings)))
        about, state = checkpoint.load(ROOT / item.checkpoint, here.backbone.fingerprint, run, settings)
        method.restore(state)
        found.append(Moment(about.tasks, method))
    return found


@torch.no_grad()
def views(here: World, moments: list[Moment], picture: Tensor, task: Task) -> list[View]:
    """What is said of a picture (3, H, W), uint8, at each moment, when a task's classes are asked for."""
    pixels = here.backbone.pixels(picture[None])
    # the untouched CLIP is asked once: it says the same at every moment
    token = features.selector_features(here.backbone, here.study.selector.features)(pixels)
    zero_shot = _shares(here, here.backbone.model.encode_image(pixels), features.class_features(here.backbone, task))
    return [_view(here, moment, pixels, token, zero_shot, task) for moment in moments]


def _view(here: World, moment: Moment, pixels: Tensor, token: Tensor, zero_shot: Tensor, task: Task) -> View:
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

        names = zero_shot_classifier(encode_text, here.backbone.tokenizer, task.classes, task.templates)
        answer = _shares(here, image.features, names)
    return View(selector.errors(token)[0], selector.thresholds, route, gates, answer, zero_shot)


def _gates(encoded: Encoded) -> Tensor:
    """The gates (blocks, E) of the first sample."""
    return torch.stack([routing.gates[0] for routing in encoded.routings.values()])


def _shares(here: World, image: Tensor, names: Tensor) -> Tensor:
    return logits(image, names, here.backbone.model.logit_scale).softmax(dim=1)[0]


def draw(picture: Tensor, task: Task, label: int | None, moments: list[Moment], views: list[View]) -> Figure:
    """A picture at the last of some moments: picture and answers, the selector's errors, the routes, and how sure the
    answer was at each of the moments. views: of each moment. label: the picture's class, if it is known."""
    learned = moments[-1].learned
    figure = plt.figure(figsize=(13, 8.5), layout="constrained")
    grid = figure.subplot_mosaic(
        [["picture", "answers", "errors"], ["image", "image", "text"], ["time", "time", "time"]],
        height_ratios=[2.2, 1.6, 1.6],
    )
    _picture(grid["picture"], picture, "" if label is None else task.classes[label])
    _answers(grid["answers"], task, views[-1])
    _errors(grid["errors"], views[-1], learned)
    for tower in ("image", "text"):
        _route(grid[tower], tower, views[-1].gates.get(tower))
    _time(grid["time"], task, label, moments, views)
    return figure


def _picture(axes: Axes, picture: Tensor, name: str) -> None:
    axes.imshow(picture.permute(1, 2, 0).numpy())
    axes.set_title(name, loc="left")
    axes.set_axis_off()


def _answers(axes: Axes, task: Task, seen: View, most: int = 5) -> None:
    """The classes of which either is surest."""
    shown = torch.maximum(seen.method, seen.zero_shot).argsort(descending=True)[:most].flip(0)
    rows = np.arange(len(shown))
    for shift, shares, colour, hatch, name in (
        (0.2, seen.method, figures.BLUE, "", "the method"),
        (-0.2, seen.zero_shot, figures.GREY, "//", "zero-shot"),
    ):
        axes.barh(
            rows + shift,
            100 * shares[shown].numpy(),
            height=0.4,
            color=colour,
            hatch=hatch,
            edgecolor="black",
            label=name,
        )
    axes.set_yticks(rows, [task.classes[c] for c in shown.tolist()])
    axes.set_xlim(0, 100)
    axes.set_xlabel("probability (%)")
    axes.set_title(f"which of the {len(task.classes)} {task.name}?", loc="left")
    axes.legend(fontsize=8)


def _errors(axes: Axes, seen: View, learned: list[str]) -> None:
    """Each task's error as a multiple of its threshold: a claim is a bar that ends before the line."""
    relative = (seen.errors / seen.thresholds).tolist()
    winner = int(seen.errors.argmin())
    rows = range(len(learned))
    colours = [figures.BLUE if t == seen.route else "0.8" for t in rows]
    axes.barh(rows, relative, color=colours, edgecolor="black", hatch=["//" if t == winner else "" for t in rows])
    axes.axvline(1, color="black", ls="--", lw=1)
    axes.set_yticks(rows, learned)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("error / threshold (hatched: the least error)")
    to = "the untouched CLIP" if seen.route == CLIP else f"the router of {learned[seen.route]}"
    axes.set_title(f"sent to {to}", loc="left")


def _route(axes: Axes, tower: str, gates: Tensor | None) -> None:
    """The gates of each block; none where the untouched CLIP answers."""
    axes.set_title(f"{tower} tower: gates", loc="left")
    if gates is None:
        axes.text(0.5, 0.5, "no router is asked", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.imshow(gates.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (block, expert), gate in np.ndenumerate(gates.numpy()):
        if gate:
            colour = "white" if gate < 0.6 else "black"
            axes.text(expert, block, f"{gate:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(gates.shape[1]))
    axes.set_yticks(range(gates.shape[0]))
    axes.set_xlabel("expert")
    axes.set_ylabel("block")
    axes.grid(False)


def _time(axes: Axes, task: Task, label: int | None, moments: list[Moment], views: list[View]) -> None:
    """How sure the method is of the true class, or of its own answer, and what it answers, after each task."""
    answers = [int(seen.method.argmax()) for seen in views]
    sure = [100 * float(seen.method[a if label is None else label]) for a, seen in zip(answers, views, strict=True)]
    still = 100 * float(views[0].zero_shot.max() if label is None else views[0].zero_shot[label])
    axes.plot(range(len(views)), sure, "o-", color=figures.BLUE, label="the method")
    axes.axhline(still, color=figures.GREY, ls=":", label="zero-shot")
    for t, (answer, height, seen) in enumerate(zip(answers, sure, views, strict=True)):
        by = "CLIP" if seen.route == CLIP else moments[t].learned[seen.route]
        axes.annotate(
            f"{task.classes[answer]}\nby {by}",
            (t, height),
            xytext=(4, 6),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xticks(range(len(views)), [f"+ {moment.learned[-1]}" for moment in moments])
    axes.set_xlim(-0.2, len(views) - 0.4)
    axes.set_ylim(-4, 135)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("probability (%)")
    axes.set_title("of its own answer" if label is None else f"of {task.classes[label]}, the truth", loc="left")
    axes.legend(fontsize=8, loc="upper left", ncols=2)

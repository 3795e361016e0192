"""How far the full studies spread, computed: runs, GPU-hours, disk, and wall time on 1, 8 and 64 GPUs.

    python -m lib.spread          writes the table of docs/cluster.md

Of every run of a study (`make study-all`), one stage a GPU at a time. A step of a method that trains CLIP's weights
takes what fine-tuning's operations take (lib/extent.py), times the ratio of the two methods' steps as measured on the
small study (reports/tables/mini/cost.csv); where CLIP is frozen the operations are counted. Hours are at extent.RATE.
Not counted: what comes before learning (downloads, decoding), a stage's start (seconds), and the report.
"""

import heapq
from graphlib import TopologicalSorter

import pandas as pd

from lib import extent, params, plan, report
from lib.extent import FROZEN, RATE
from lib.figures import NAMES
from lib.paths import REPORTS, ROOT
from lib.slots import longest_ways

GPUS = (1, 8, 64)
STUDIES = ("mtil", "mtil_5shot", "mtil_16shot", "mtil_released")  # the paper's comparison on MTIL
PAGE = ROOT / "docs" / "cluster.md"
MARKS = ("<!-- spread: `python -m lib.spread` writes this table -->", "<!-- end of spread -->")


def step_ratios() -> dict[str, float]:
    """How much longer than fine-tuning's a training step of each run of the small study took; NaN without training."""
    costs = pd.read_csv(REPORTS / "tables" / "mini" / "cost.csv")
    measured = dict(zip(costs["method"], costs["seconds a step"].astype(float), strict=True))
    steps = {run: measured[name] for run, name in NAMES.items() if name in measured}
    return {run: seconds / steps["finetune"] for run, seconds in steps.items()}


def hours(study: params.Study, ratios: dict[str, float]) -> dict[str, float]:
    """GPU-hours of every learning stage of a study: its share of its run's training and tests."""
    tasks = len(extent.parts(study))
    found = {}
    for key, item in plan.items(study).items():
        ratio = ratios.get(item.run, ratios.get(item.method, 1.0))
        scale = 1.0 if item.method in FROZEN else ratio if ratio == ratio else 0.0  # NaN: nothing is trained
        whole = scale * extent.training(study, item.run) + extent.testing(study, item.run)
        found[key] = whole * (item.stop - item.first) / tasks / RATE / 3600
    return found


def wall(hours: dict[str, float], waiting: dict[str, set[str]], gpus: int) -> float:
    """Hours until the last stage has ended: whenever a GPU is free it takes the stage with the longest way ahead."""
    order, way = TopologicalSorter(waiting), longest_ways(waiting, hours)
    order.prepare()
    ready: list[tuple[float, str]] = []
    running: list[tuple[float, str]] = []
    now = 0.0
    while order.is_active():
        for stage in order.get_ready():
            heapq.heappush(ready, (-way[stage], stage))
        while ready and len(running) < gpus:
            _, stage = heapq.heappop(ready)
            heapq.heappush(running, (now + hours[stage], stage))
        now, stage = heapq.heappop(running)
        order.done(stage)
    return now


def waiting(study: params.Study, prefix: str = "") -> dict[str, set[str]]:
    """Every learning stage with those it waits for."""
    items = plan.items(study)
    made = {item.checkpoint: prefix + key for key, item in items.items()}
    return {
        prefix + key: {made[item.parent]} if item.parent in made else set() for key, item in items.items()
    }


def table() -> str:
    """The page's table: a line for each study, and one for all of them at once."""
    ratios = step_ratios()
    rows = [["study", "runs", "stages", "GPU-hours", "disk", *(f"{n} GPU{'s' * (n > 1)}" for n in GPUS)]]
    rows.append(["---"] * len(rows[0]))
    every: dict[str, float] = {}
    needs: dict[str, set[str]] = {}
    runs, disk, decoded = 0, 0.0, 0.0
    for name in STUDIES:
        study = params.load(f"studies/{name}/params.yaml")
        taken = {f"{name}/{key}": value for key, value in hours(study, ratios).items()}
        after = waiting(study, f"{name}/")
        many = len({(item.run, item.order, item.seed) for item in plan.items(study).values()})
        kept = _kept(study)
        rows.append(_row(f"`{name}`", many, taken, after, kept))
        every, needs = every | taken, needs | after
        runs, disk, decoded = runs + many, disk + kept, max(decoded, extent.decoded(study))
    rows.append(_row("all four", runs, every, needs, disk + decoded))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _kept(study: params.Study) -> float:
    """Bytes of a study's features and of the checkpoints of all its runs."""
    runs = {(item.run, item.order, item.seed) for item in plan.items(study).values()}
    return extent.features(study) + sum(extent.kept(study, run) for run, _, _ in runs)


def _row(name: str, runs: int, taken: dict[str, float], after: dict[str, set[str]], disk: float) -> list[str]:
    times = [f"{wall(taken, after, gpus):.1f} h" for gpus in GPUS]
    return [name, str(runs), str(len(taken)), f"{sum(taken.values()):.1f}", f"{disk / 1e9:.0f} GB", *times]


if __name__ == "__main__":
    PAGE.write_text(report.with_table(PAGE.read_text(), table(), MARKS))
    print(f"written: {PAGE.relative_to(ROOT)}")

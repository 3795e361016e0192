"""Runs a study through DVC, independent stages side by side, and shows where it is and how long it will take.

`python -m tools.stages.run` runs the main story (the first seed of its runs) and reports what is there; `--all` runs every
run and seed; `--target STAGE` runs one stage and what it needs. The stages and their order are dvc.yaml's; this module
only starts `dvc repro --single-item` for one stage after the other, as many at a time as there are slots; with
`--cluster` their notebooks are run by the workers of a cluster (tools/stages/cluster.py). Ctrl-C and SIGTERM end everything that
was started; the next call goes on where this one was.
"""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from types import FrameType

from lib.study import plan
from lib.study.check import check
from lib.study.params import ParamsError, Study, load
from lib.study.paths import ROOT
from tools.stages.graph import Graph, address
from tools.stages.lock import alone
from tools.stages.slots import Slots, gpu_groups

SHARED = {
    "code": "studies/dvc.yaml:code",
    "pretrain": "studies/dvc.yaml:pretrain",
}  # the stages of all studies
STORY = ["tasks", "zero_shot", "start_here", "router_and_experts", "selector"]  # besides the learning stages
REPORT = ["results", "report"]
EVERYTHING = ["ablations", "cost"]  # what only the whole study has
STOPPED = "stopped; what was finished is kept, the same command goes on from there"
SLOT_BYTES = 2 * 2**30  # memory that a stage may need


def default_jobs(threads: int, groups: int = 0) -> int:
    """As many stages at a time as there are groups of GPUs; without any, as cores for their threads, and memory."""
    if groups:
        return groups
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)) // threads, memory // SLOT_BYTES))


def weight(study: Study, stage: str) -> float:
    """What a stage weighs in the time left: one for each task that it learns, and a half for being started."""
    key = stage.partition("learn@")[2]
    item = plan.items(study).get(key)
    return 0.5 + (item.stop - item.first) * (item.method != "zero_shot") if item else 1.0


def targets(asked: argparse.Namespace, study: Study, folder: str) -> tuple[list[str], list[str]]:
    """The stages to run with all that they need, and those to run after them on whatever is there."""
    if asked.target:
        stage = SHARED.get(asked.target) or address(folder, asked.target)
        return ([], [stage]) if asked.target in REPORT or asked.force else ([stage], [])
    if asked.all:
        names = [*STORY, *(f"learn@{key}" for key in plan.items(study)), *EVERYTHING, *REPORT]
        return [address(folder, name) for name in names], []
    names = [*STORY, *(f"learn@{key}" for key in plan.main_story(study))]
    return [address(folder, name) for name in names], [address(folder, name) for name in REPORT]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.stages.run", description="Run a study.")
    parser.add_argument("--study", default="mini", help="mini, or a folder of studies/")
    parser.add_argument("--all", action="store_true", help="every run and seed, not only the main story")
    parser.add_argument("--target", help="one stage, and what it needs")
    parser.add_argument("--force", action="store_true", help="run the target even if nothing changed")
    parser.add_argument("--jobs", type=int, default=0, help="stages side by side; 0 = as many as there are cores")
    parser.add_argument(
        "--cluster",
        default="",
        help="local, slurm, or a Dask scheduler's address; its workers run the stages",
    )
    return parser.parse_args()


def prepared(asked: argparse.Namespace, held: ExitStack) -> tuple[Slots, dict[str, set[str]], list[str]]:
    """The slots, the stages to look at with those that each waits for, and the stages to run after them.

    held: keeps the lock, and the cluster if one is asked for. Raises ValueError for what cannot be run.
    """
    folder = str(plan.folder_of(asked.study))
    study = load(f"{folder}/params.yaml")
    check(study)
    held.enter_context(alone())
    plan.write()
    wanted, after = targets(asked, study, folder)
    graph = Graph(wanted)
    waiting, stale = graph.waits_for(), graph.outdated()
    gpus = [] if study.compute.device == "cpu" else gpu_groups(1)
    jobs, scheduler = asked.jobs or default_jobs(study.compute.threads, len(gpus)), ""
    if asked.cluster:
        jobs, scheduler = sent(asked, jobs, gpus, held)
    print(
        f"{len(waiting) - len(stale)} stages are up to date, {len(stale)} to look at, {jobs} at a time",
        flush=True,
    )
    weights = {stage: weight(study, stage) for stage in [*stale, *after]}
    slots = Slots(jobs, weights, asked.force, [] if scheduler else gpus, scheduler, graph.changed)
    return slots, {stage: waiting[stage] & stale for stage in stale}, after


def sent(asked: argparse.Namespace, jobs: int, gpus: list[str], held: ExitStack) -> tuple[int, str]:
    """The number of stages to send to a cluster at a time, and its scheduler's address."""
    if find_spec("distributed") is None:
        raise ValueError("a study on a cluster needs dask.distributed: .venv/bin/pip install '.[cluster]'")
    from tools.stages import cluster  # late: most runs have none

    settings = cluster.load()
    address = held.enter_context(cluster.ready(asked.cluster, settings, jobs, gpus))
    return jobs if asked.cluster == "local" else asked.jobs or settings.stages_at_once, address


def end_on_signals(slots: Slots) -> None:
    """Has Ctrl-C and SIGTERM end all stages, then this process."""

    def stop(number: int, _frame: FrameType | None) -> None:
        slots.stop()
        sys.exit(f"\n{STOPPED}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main() -> int:
    """Runs what was asked for; returns the exit status."""
    asked = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # until there are stages: what is being prepared is closed
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as held:
        try:
            slots, waiting, after = prepared(asked, held)
        except KeyboardInterrupt:
            sys.exit(f"\n{STOPPED}")
        except (ParamsError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        end_on_signals(slots)
        os.chdir(ROOT)
        slots.run(waiting)
        for stage in after:
            if slots.failed:
                slots.skipped.append(stage)
            else:
                slots.run({stage: set()})
        return slots.summary()


if __name__ == "__main__":
    sys.exit(main())

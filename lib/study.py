"""Runs a study through DVC, independent stages side by side, and shows where it is and how long it will take.

`python -m lib.study` runs the main story (the first seed of its runs) and reports what is there; `--all` runs every
run and seed; `--target STAGE` runs one stage and what it needs. The stages and their order are dvc.yaml's; this module
only starts `dvc repro --single-item` for one stage after the other, as many at a time as there are slots. Ctrl-C and
SIGTERM end everything that was started; the next call goes on where this one was.
"""

import argparse
import os
import signal
import sys
from types import FrameType

from lib import plan
from lib.graph import Graph, address
from lib.params import ParamsError, Study, load
from lib.paths import ROOT
from lib.slots import Slots, gpu_groups

SHARED = {
    "code": "studies/dvc.yaml:code",
    "pretrain": "studies/dvc.yaml:pretrain",
}  # the stages of all studies
STORY = ["tasks", "zero_shot", "start_here", "router_and_experts", "selector"]  # besides the learning stages
REPORT = ["results", "report"]
EVERYTHING = ["ablations", "cost"]  # what only the whole study has
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
    parser = argparse.ArgumentParser(prog="python -m lib.study", description="Run a study.")
    parser.add_argument("--study", default="mini", help="mini, or a folder of studies/")
    parser.add_argument("--all", action="store_true", help="every run and seed, not only the main story")
    parser.add_argument("--target", help="one stage, and what it needs")
    parser.add_argument("--force", action="store_true", help="run the target even if nothing changed")
    parser.add_argument(
        "--jobs", type=int, default=0, help="stages side by side; 0 = as many as there are cores"
    )
    return parser.parse_args()


def check_methods(study: Study) -> None:
    """Raises ParamsError if a run's method or settings do not exist: now, not when its stage starts."""
    from lib.learn import settings_of
    from lib.methods import method_class
    from lib.params import build, method_of

    for run in study.runs:
        cls = method_class(method_of(run))
        build(
            cls.Settings,
            settings_of(study, run),
            f"study {study.study}, run {run}: settings of {cls.__name__}",
        )


def main() -> int:
    """Runs what was asked for; returns the exit status."""
    asked = arguments()
    try:
        folder = str(plan.folder_of(asked.study))
        study = load(f"{folder}/params.yaml")
        check_methods(study)
        plan.write()
        wanted, after = targets(asked, study, folder)
        graph = Graph(wanted)
        waiting, stale = graph.waits_for(), graph.outdated()
    except (ParamsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    gpus = [] if study.compute.device == "cpu" else gpu_groups(study.compute.processes)
    jobs = asked.jobs or default_jobs(study.compute.threads, len(gpus))
    slots = Slots(jobs, {stage: weight(study, stage) for stage in [*stale, *after]}, asked.force, gpus)

    def stop(number: int, _frame: FrameType | None) -> None:
        slots.stop()
        sys.exit("\nstopped; what was finished is kept, the same command goes on from there")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    os.chdir(ROOT)
    print(
        f"{len(waiting) - len(stale)} stages are up to date, {len(stale)} to look at, {jobs} at a time",
        flush=True,
    )
    slots.run({stage: waiting[stage] & stale for stage in stale})
    for stage in after:
        if not slots.failed:
            slots.run({stage: set()})
    return slots.summary()


if __name__ == "__main__":
    sys.exit(main())

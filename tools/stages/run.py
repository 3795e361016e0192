"""Runs a study through DVC, independent stages side by side, and shows where it is and how long it will take.

`python -m tools.stages.run` runs the main story (the first seed of its runs) and then the report of all results that
are there. `--all` is every run and seed: a stage runs only if what it reads has changed or if its committed result is
missing; all others are taken over. `--target STAGE` is one stage and what it needs; `--target learn` are all runs and
seeds, without figures and report. Each stage is run by
`dvc repro --single-item`; with `--cluster` the workers of a cluster run the notebooks. Ctrl-C and SIGTERM end all that
was started, and the next call goes on from there.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from lib.data.folders import task_names
from lib.study import plan, studies
from lib.study.params import ParamsError, Study, load
from lib.study.plan import check as check_study
from lib.study.studies import ROOT
from tools.stages.graph import CODE, LEARN, PRETRAIN, Graph, address, learning_stage
from tools.stages.processes import cores
from tools.stages.schedule import Schedule
from tools.stages.slots import Slots, short, visible_gpus

SHARED = {"code": CODE, "pretrain": PRETRAIN}  # the stages of all studies
STORY = ["tasks", "zero_shot", "start_here", "router_and_experts", "selector"]  # besides the learning stages
REPORT = ["results", "report"]
EVERYTHING = ["ablations", "beyond", "cost", "elsewhere"]  # what only the whole study has
SLOT_BYTES = 2 * 2**30  # memory that a stage may need
SENT_AT_ONCE = 32  # stages that a cluster runs or queues; each takes 90 MB of this machine (measured)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.stages.run", description="Run a study.")
    parser.add_argument("--study", default="mini", help="mini, or a file of studies/ without its ending")
    parser.add_argument("--all", action="store_true", help="every run and seed, not only the main story")
    parser.add_argument("--target", help="one stage, and what it needs; learn: all runs and seeds")
    parser.add_argument("--force", action="store_true", help="run the target even if nothing changed")
    parser.add_argument("--jobs", type=int, default=0, help="stages side by side; 0 = as many as there are cores")
    parser.add_argument("--cluster", default="", help="local, or the address of a Dask scheduler")
    return parser.parse_args()


@contextmanager
def alone(lock: Path = ROOT / ".dvc" / "tmp" / "study.lock") -> Iterator[None]:
    """Holds the lock of the one coordinator. Raises ValueError while another process does.

    The kernel lets go of the lock when its holder ends, in whatever way.
    """
    holder = lock.with_suffix(".holder")  # what people read
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            since = f"{datetime.now():%d %B, %H:%M:%S}"
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}")
            yield
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise ValueError(f"a study runs here already: {who}. Wait for it, or stop it (Ctrl-C there)") from None


def check(study: Study, root: Path = ROOT) -> None:
    """Raises ValueError, with one line, for what would stop the study later: pictures, methods, backbone."""
    if study.tasks.source == "folder":
        there = task_names(root / study.tasks.root)
        for order, tasks in study.tasks.orders.items():
            if missing := [name for name in tasks if name not in there]:
                file = studies.file_of(study.study, root).relative_to(root)
                raise ParamsError(
                    f"{file}: tasks.orders.{order} has {', '.join(missing)}; there are: {', '.join(there)}"
                )
    check_study(study)
    place = plan.weights(study)
    if place and not (root / place).exists():
        raise ParamsError(f"study {study.study}: the backbone {place} is missing; `git checkout data` brings it back")


def settle_without_git(root: Path = ROOT) -> None:
    """Tells DVC that there is no git, if the project is a copy without it, such as a downloaded archive."""
    local = root / ".dvc" / "config.local"
    if not (root / ".git").exists() and not local.exists():
        local.write_text("[core]\n    no_scm = true\n    autostage = false\n")


def default_jobs(threads: int, gpus: int = 0) -> int:
    """A stage for each GPU; without any, as many stages as cores for their threads, and memory, allow."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return gpus or max(1, min(cores() // threads, memory // SLOT_BYTES))


def weight(study: Study, stage: str) -> float:
    """What a stage counts in the time left: one for each task that it learns, and a half for being started."""
    item = plan.items(study).get(learning_stage(stage))
    return 0.5 + item.tasks * (item.method != "zero_shot") if item else 1.0


def targets(asked: argparse.Namespace, study: Study, folder: str) -> tuple[list[str], list[str]]:
    """The stages to run with all that they need, and those to run after them on whatever is there."""
    learning = [LEARN + key for key in plan.items(study)]
    if asked.target == "learn":
        return [address(folder, name) for name in learning], []
    if asked.target:
        stage = SHARED.get(asked.target) or address(folder, asked.target)
        return ([], [stage]) if asked.target in REPORT or asked.force else ([stage], [])
    if asked.all:
        names = [*STORY, *learning, *EVERYTHING, *REPORT]
        return [address(folder, name) for name in names], []
    names = [*STORY, *(LEARN + key for key in plan.main_story(study))]
    return [address(folder, name) for name in names], [address(folder, name) for name in REPORT]


def coordinate(asked: argparse.Namespace, held: ExitStack) -> int:
    """Runs what was asked for; returns the exit status. Raises ValueError for what cannot be run.

    held: ends what is started here, on the way out.
    """
    study = load(studies.file_of(asked.study).relative_to(ROOT))
    folder = "." if asked.study == "mini" else f"studies/{asked.study}"
    check(study)
    held.enter_context(alone())
    settle_without_git()
    plan.write(asked.study)
    wanted, after = targets(asked, study, folder)
    graph = Graph([CODE, *wanted], asked.all)
    slots = slots_of(asked, study, held)
    held.callback(slots.stop)
    schedule = Schedule(slots, graph, {stage: weight(study, stage) for stage in graph.stages})
    run_stages(schedule, graph, after, study)
    return schedule.summary()


def slots_of(asked: argparse.Namespace, study: Study, held: ExitStack) -> Slots:
    """Slots on this machine, one a GPU if there are some, or on the cluster that was asked for."""
    gpus = [] if study.compute.device == "cpu" else visible_gpus()
    jobs = asked.jobs or default_jobs(study.compute.threads, len(gpus))
    if not asked.cluster:
        return Slots(jobs, gpus, force=asked.force)
    if find_spec("distributed") is None:
        raise ValueError("a study on a cluster needs dask.distributed: .venv/bin/pip install '.[cluster]'")
    from tools.stages import cluster

    scheduler = held.enter_context(cluster.ready(asked.cluster, jobs))
    return Slots(jobs if asked.cluster == "local" else asked.jobs or SENT_AT_ONCE, (), scheduler, asked.force)


def announce(study: Study, stages: Iterable[str], jobs: int) -> None:
    """Says what these learning stages fetch and how long they take, for a study of published data sets.

    Raises ValueError if the backbone or a catalogue's data set is not to be had.
    """
    keys = [key for stage in sorted(stages) if (key := learning_stage(stage))]
    if study.tasks.source == "datasets" and keys:
        command = [sys.executable, "-m", "tools.stages.estimate", study.study, *keys, "--jobs", str(jobs)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise ValueError("the study has not begun; the line above says what to mend")


def run_stages(schedule: Schedule, graph: Graph, after: list[str], study: Study) -> None:
    """Runs the stage `code`, then what is outdated, then the stages `after` one by one."""
    schedule.run({CODE: set()}, graph.changed([CODE]))  # says what has changed
    if schedule.failed:
        return
    waiting = graph.waits_for()
    for stage in waiting:
        if short(stage) == "cost":  # shows the times of the learning stages, which are no input: they always differ
            waiting[stage] |= {other for other in waiting if learning_stage(other)}
    outdated = graph.outdated() - {CODE}
    current = waiting.keys() - outdated
    if taken_over := sum(bool(learning_stage(s)) and not graph.has_outputs(s) for s in current):
        print(f"{taken_over} learning stages are taken over from the committed results", flush=True)
    announce(study, outdated, schedule.slots.jobs)
    counts = f"{len(current)} stages are up to date, {len(outdated)} to look at"
    print(f"{counts}, {schedule.slots.jobs} at a time", flush=True)
    schedule.run(waiting, outdated)
    for stage in after:
        if schedule.failed:
            schedule.skipped.append(stage)
        else:
            schedule.run({stage: set()}, {stage})


def main() -> int:
    """The command; returns its exit status."""
    asked = arguments()
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as held:
        try:
            return coordinate(asked, held)
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # once is enough
            held.close()
            sys.exit("\nstopped; what was finished is kept, the same command goes on from there")
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())

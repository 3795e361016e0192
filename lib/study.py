"""Runs a study through DVC and shows where it is: which stage of how many, its step and loss, the time left.

`python -m lib.study` runs the main story (the first seed of every run) and reports what is there; `--all` runs every
seed; `--target STAGE` runs one stage and what it needs. Ctrl-C and SIGTERM end everything that was started; the
next call goes on where this one was.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib import plan
from lib.params import ParamsError, Study, load
from lib.paths import ROOT
from lib.progress import minutes

SHARED = "notebooks/dvc.yaml"  # the stages that all studies share: code-only notebooks, the backbone
STORY = ["tasks", "zero_shot", "start_here", "router_and_experts", "selector"]  # besides the learning stages
REPORT = ["results", "report"]
# lines of DVC that say nothing here
NOISE = (">", "Updating lock", "Generating lock", "To track", "\tgit", "Use `dvc", "WARNING: Process")


def dvc(*arguments: str) -> list[str]:
    """The command line of DVC in this environment."""
    return [sys.executable, "-m", "dvc", *arguments]


def story(study: Study, folder: Path, everything: bool) -> list[str]:
    """The stages to run, as DVC names them, without the report of a main story."""
    learning = list(plan.items(study)) if everything else plan.main_story(study)
    names = [*STORY, *(f"learn@{key}" for key in learning), *(REPORT if everything else [])]
    return [address(folder, name) for name in names]


def address(folder: Path, stage: str) -> str:
    """A stage of a study as DVC names it from the root."""
    return f"{folder}/dvc.yaml:{stage}" if folder.parts else stage


class Watch:
    """Reads DVC's output and turns it into lines that say how far the study is.

    The time left is reckoned from the time that the stages before took, a learning stage weighing as many units as it
    learns tasks (none for zero-shot), any other one.
    """

    def __init__(self, stages: list[str], weights: dict[str, float]) -> None:
        self.total, self.done = len(stages), 0
        self.weights, self.left = weights, sum(weights.get(stage, 1.0) for stage in stages)
        self.seconds, self.weight, self.began, self.stage = 0.0, 0.0, time.monotonic(), ""

    def line(self, text: str) -> None:
        """Takes one line of DVC's output."""
        skipped = re.match(r"Stage '(.+)' (didn't change|is cached)", text)
        started = re.match(r"Running stage '(.+)':", text)
        if started:
            self.finish()
            self.stage, self.began = started[1], time.monotonic()
            print(f"\n[{self.done + 1}/{self.total}] {self.stage}{self._left()}", flush=True)
        elif skipped:
            self.finish()
            self._count(skipped[1])
        elif text.strip() and not text.startswith(NOISE):
            print(f"    {text}", flush=True)

    def finish(self) -> None:
        """The stage that was running has ended."""
        if self.stage:
            self.seconds += time.monotonic() - self.began
            self.weight += self._count(self.stage)
            self.stage = ""

    def _count(self, stage: str) -> float:
        weight = self.weights.get(stage, 1.0)
        self.done, self.left = self.done + 1, self.left - weight
        return weight

    def _left(self) -> str:
        if not self.weight:
            return ""
        return f" (about {minutes(self.seconds / self.weight * self.left)} left for the whole study)"


def run(command: list[str], watch: Watch) -> int:
    """Runs DVC in a process group of its own, so that ending it ends the notebooks that it started."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # GOMP's threads spin long while they wait: on cores shared with others a step then takes many times as long
    environment = {"GOMP_SPINCOUNT": "20000"} | os.environ | {"PYTHONUNBUFFERED": "1", "PATH": path}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def end(number: int, _frame: object) -> None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        sys.exit(
            f"\nstopped in stage {watch.stage or '?'}; what was finished is kept, the same command goes on from there"
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    assert process.stdout is not None
    for text in process.stdout:
        watch.line(text.rstrip("\n"))
    code = process.wait()
    if code == 0:
        watch.finish()
    return code


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lib.study", description="Run a study.")
    parser.add_argument("--study", default="mini", help="mini, or a folder of studies/")
    parser.add_argument("--all", action="store_true", help="every seed, not only the main story")
    parser.add_argument("--target", help="one stage, and what it needs")
    parser.add_argument("--force", action="store_true", help="run the target even if nothing changed")
    asked = parser.parse_args()
    try:
        folder = plan.folder_of(asked.study)
        study = load(folder / "params.yaml")
        plan.write()
    except ParamsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    began = time.monotonic()
    code = _target(asked, folder) if asked.target else _story(study, folder, asked.all)
    print(f"\n{'done' if code == 0 else 'failed'} after {minutes(time.monotonic() - began)}", flush=True)
    if code:
        print(
            "the stage named last failed; its message is above, its notebook in reports/notebooks",
            file=sys.stderr,
        )
    return code


def _target(asked: argparse.Namespace, folder: Path) -> int:
    shared = asked.target in ("code", "pretrain")
    stage = f"{SHARED}:{asked.target}" if shared else address(folder, asked.target)
    only = ["--force", "--single-item"] if asked.force else []
    alone = ["--single-item"] if asked.target in REPORT else []  # report what is there, run nothing for it
    return run(dvc("repro", *only, *alone, stage), Watch([stage], {}))


def _story(study: Study, folder: Path, everything: bool) -> int:
    stages = story(study, folder, everything)
    after = [] if everything else [address(folder, stage) for stage in REPORT]
    learning = {address(folder, f"learn@{key}"): item for key, item in plan.items(study).items()}
    weights = {
        stage: float((item.stop - item.first) * (item.method != "zero_shot"))
        for stage, item in learning.items()
    }
    watch = Watch([f"{SHARED}:code", f"{SHARED}:pretrain", *stages, *after], weights)
    code = run(dvc("repro", *stages), watch)
    for stage in after:
        code = code or run(dvc("repro", "--single-item", stage), watch)
    return code


if __name__ == "__main__":
    sys.exit(main())

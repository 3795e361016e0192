"""Runs of the small study: their stages, their files, and interrupting them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.methods.base import Lesson, Method
from lib.study import params, stage
from tests.support import small_study

KEY = "moe_adapters--I--s0"


def study(run: str = "moe_adapters", changes: dict[str, Any] | None = None, **settings: Any) -> params.Study:
    """The small study with one run; `settings` are the run's, `changes` the study's numbers by dotted path."""
    return small_study.study({"runs": {run: {"seeds": [0, 1], "set": {}} | settings}} | (changes or {}))


def learn(home: Path, key: str = KEY, made: params.Study | None = None) -> dict[str, Any]:
    """Learns a stage of the small study, or of a changed one."""
    return small_study.open_at(home, made or study(key.partition("--")[0])).learn(key)


def result(home: Path, run: str = "moe_adapters", seed: int = 0) -> Path:
    """Where a run's result is written."""
    return home / "reports" / "results" / "tiny" / f"{run}--I--s{seed}.json"


def held(home: Path, key: str = KEY) -> list[bytes]:
    """The bytes of a checkpoint."""
    folder = home / "data" / "tiny" / "runs" / key
    return [(folder / name).read_bytes() for name in ("about.json", "state.safetensors")]


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Learning task `number` is interrupted; returns the numbers of the tasks whose training was begun."""
    begun, whole = [], stage.learn_task

    def watched(method: Method, lesson: Lesson, *how: Any) -> list[float]:
        begun.append(lesson.number)
        if lesson.number == number:
            raise KeyboardInterrupt
        return whole(method, lesson, *how)

    monkeypatch.setattr(stage, "learn_task", watched)
    return begun


def interrupt(begin: Callable[[], object], at: int = 1) -> None:
    """What is begun is interrupted while it learns task `at`."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, at)
        with pytest.raises(KeyboardInterrupt):
            begin()


def begun_by(begin: Callable[[], object]) -> list[int]:
    """Lets it learn to the end; returns the numbers of the tasks whose training was begun."""
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 9)
        begin()
    return begun


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on training is a failure of the test."""
    monkeypatch.setattr(stage, "learn_task", lambda *_: pytest.fail("training began"))

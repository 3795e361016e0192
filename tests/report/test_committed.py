"""Your run and ours, in a small git repository: each verdict, and no git at all."""

import subprocess
from pathlib import Path

import pytest

from lib.report import committed
from tests.support.made_results import result, write


def git(folder: Path, *arguments: str) -> None:
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed folder of results: three seeds that lie two points apart, and two runs of one seed."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook: it must not lead to another repository
    with monkeypatch.context() as patch:
        patch.delenv("GIT_DIR")
        folder = tmp_path / "reports" / "results" / "tiny"
        write(folder, *(result("moe_adapters", seed, more=2 * seed) for seed in range(3)))
        write(folder, result("finetune"), result("zero_shot"))
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "results")
    return folder


def verdict(folder: Path, run: str, seed: int = 0) -> tuple[str, str]:
    """The verdict on a run and its largest difference."""
    lines = committed.compare(folder).set_index(["run", "seed"])
    return lines.at[(run, seed), "verdict"], lines.at[(run, seed), "largest difference"]


@pytest.mark.parametrize("run", ["moe_adapters", "finetune"])
@pytest.mark.parametrize(("more", "word"), [(1.0, "within the interval"), (14.0, "outside"), (-14.0, "outside")])
def test_a_run_that_differs_is_judged_by_the_seeds(folder: Path, run: str, more: float, word: str) -> None:
    # a further seed: t(0.975, 2) * 2 * sqrt(1 + 1 / 3) = 9.9 around a mean 2 above the mixture's first seed
    write(folder, result(run, more=more))
    assert verdict(folder, run)[0] == word
    assert "± 9.9" in verdict(folder, run)[1]
    assert verdict(folder, "zero_shot")[0] == "same bytes"


def test_a_run_that_is_not_committed_is_new_and_comes_first(folder: Path) -> None:
    write(folder, result("mine"), result("moe_adapters", 3))
    assert verdict(folder, "mine")[0] == verdict(folder, "moe_adapters", 3)[0] == "new"
    assert committed.compare(folder)["verdict"].tolist() == ["new"] * 2 + ["same bytes"] * 5
    assert committed.in_one_line(committed.compare(folder)) == "7 runs, 2 new, 5 same bytes."


def test_without_a_commit_there_is_nothing_to_compare_with(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "reports" / "results" / "other"  # in the repository, but not committed
    write(other, result("finetune"))
    assert committed.compare(other).empty
    (tmp_path / ".git").rename(tmp_path / "git")
    for place in (other, folder, tmp_path / "missing"):
        assert committed.compare(place).empty
        assert "nothing to compare" in committed.in_one_line(committed.compare(place))

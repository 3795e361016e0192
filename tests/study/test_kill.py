"""A run that is killed without warning goes on where it was: the same bytes as those of an undisturbed run."""

from pathlib import Path

from tests.support import killed_run, small_study
from tests.support.small_run import KEY, held, result


def finished(home: Path) -> set[str]:
    """The tasks whose checkpoints are whole."""
    return {path.name for path in home.glob(f"data/tiny/scratch/{KEY}/*/*") if path.name.isdigit()}


def test_kills_change_no_byte_and_lose_no_task(tmp_path: Path) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for home in (calm, wild):
        small_study.prepare(home)
    whole, changes = killed_run.learn_until(calm)
    assert whole
    tasks: set[str] = set()
    for change in (1, changes // 3, changes // 3, changes // 2):  # in the first task, and in later ones
        assert not killed_run.learn_until(wild, change)[0]
        assert tasks <= finished(wild), "a finished task was lost"
        tasks = finished(wild)
    assert tasks
    assert killed_run.learn_until(wild)[0]
    assert (wild / "said").read_text().count("was finished before") >= len(tasks)
    assert (result(wild).read_bytes(), held(wild)) == (result(calm).read_bytes(), held(calm))

"""A run killed without warning goes on where it was: the same bytes as an undisturbed run's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import small_study

KEY = "moe_adapters--I--s0"
# a process of its own that learns the small study's whole sequence under the folder it is given
CHILD = """
import sys
from pathlib import Path
import pytest, torch, small_study
from lib import learn
torch.set_num_threads(1)
home = Path(sys.argv[1])
small_study.move(pytest.MonkeyPatch(), home)
learn.learn(small_study.study({"train.steps": 30}), sys.argv[2])
"""


def start(home: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD, str(home), KEY]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outcome(home: Path) -> list[bytes]:
    folder = home / "data" / "tiny" / "runs" / KEY
    result = home / "reports" / "results" / "tiny" / f"{KEY}.json"
    return [path.read_bytes() for path in (result, folder / "about.json", folder / "state.safetensors")]


def finished(home: Path) -> set[str]:
    """Names of the tasks' checkpoints that are whole."""
    return {p.name for p in home.glob(f"data/tiny/scratch/{KEY}/*/*") if not p.name.endswith(".partial")}


def test_three_kills_change_no_byte(tmp_path: Path) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for home in (calm, wild):
        small_study.prepare(home)
    child = start(calm)
    said = child.communicate(timeout=120)[0]
    assert child.returncode == 0, said
    kept: list[set[str]] = []
    for moment in (set(), {"0"}, {"0", "1"}):  # before the first, after the first, after the second task
        child = start(wild)
        while child.poll() is None and not finished(wild) >= moment:
            time.sleep(0.005)
        if not moment:
            time.sleep(0.5)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        kept.append(finished(wild))
    assert kept[0] <= kept[1] <= kept[2], "a finished task was lost"
    if (wild / "reports").exists() and not kept[2]:
        pytest.fail("the run ended before it could be killed")
    child = start(wild)
    said = child.communicate(timeout=120)[0]
    assert child.returncode == 0, said
    assert said.count("was finished before") == len(kept[2])
    assert outcome(wild) == outcome(calm)

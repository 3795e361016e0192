"""One of several processes that learn a run of the small study together: `torchrun shared_run.py HOME RUN SETTINGS`."""

import json
import sys
from pathlib import Path

import pytest

from lib.study import stage as learn
from tests.support import small_study
from tests.support.small_run import study

if __name__ == "__main__":
    home, run, settings = sys.argv[1:]
    small_study.move(pytest.MonkeyPatch(), Path(home))
    together = study(run, {"compute": {"threads": 1, "processes": 2}}, set=json.loads(settings))
    learn.learn(together, f"{run}--I--s0")

"""Memory of this process: what it holds, the most that some work needs, and work in new processes."""

import os

import numpy as np
import pytest

from tools.bench import meters


def test_the_most_that_work_holds_counts_what_it_gives_back() -> None:
    assert meters.most(lambda: np.ones(25_000_000)) == pytest.approx(191, abs=20)  # 200 MB, gone at once
    assert 0 <= meters.most(lambda: None) < 20


def test_what_is_held_is_held_until_it_goes() -> None:
    before = meters.held()
    block = np.ones(25_000_000)
    assert meters.held() - before == pytest.approx(block.nbytes / 2**20, abs=20)
    del block
    assert meters.held() - before < 20


def test_every_call_has_a_process_of_its_own() -> None:
    first, second = meters.in_new_processes(os.getpid, [(), ()])
    assert len({first, second, os.getpid()}) == 3

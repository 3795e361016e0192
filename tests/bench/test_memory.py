"""Memory of this process: what is held, and the most that a piece of work needs."""

import numpy as np
import pytest

from tools.bench import memory


def test_the_most_that_work_holds_counts_what_it_gives_back() -> None:
    def work() -> None:
        np.ones(25_000_000)  # 200 MB, gone at once

    assert memory.most(work) == pytest.approx(191, abs=20)  # in megabytes of 2^20 bytes
    assert memory.most(lambda: None) < 20


def test_what_is_held_is_held_until_it_goes() -> None:
    before = memory.held()
    block = np.ones(25_000_000)
    assert memory.held() - before == pytest.approx(block.nbytes / 2**20, abs=20)
    del block
    assert memory.held() - before < 20

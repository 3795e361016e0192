"""The benchmark's tests share a tiny mixture."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP
from tools.bench.step import Bench


@pytest.fixture
def small(mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor) -> Bench:
    return Bench(mixture(tasks=1, noise=False).train(), images, torch.arange(8), tokens)

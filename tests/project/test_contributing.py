"""The method that the contributing page adds is one that works, in as few lines as it says."""

import re
import sys
from types import ModuleType

import pytest
import torch

from lib.methods.base import Method
from lib.study.paths import ROOT
from tests.support import small_study


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """The class of the example, as if it were a module of its own."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block is not None
    source = block[1]
    assert len(source.splitlines()) < 40
    module = ModuleType("spring_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source, module.__dict__)
    return module.__dict__["Spring"]


def learned(example: type[Method], weight: float) -> Method:
    torch.manual_seed(0)
    return small_study.teach(example(small_study.context(), {"lr": 0.01, "weight": weight}), 0)


def distance(pupil: Method) -> float:
    frozen = small_study.backbone().model.state_dict()
    return sum(float((v - frozen[k]).square().sum()) for k, v in pupil.state().items())


def test_the_example_learns_and_its_spring_pulls(example: type[Method]) -> None:
    loose, held = learned(example, 0.0), learned(example, 100.0)
    assert 0 < distance(held) < distance(loose)

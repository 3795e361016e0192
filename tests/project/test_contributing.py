"""The method that the contributing page adds is one that works, in as few lines as it says."""

import re
import sys
from types import ModuleType

import pytest
import torch

from lib.study.studies import ROOT
from tests.support import small_study


def test_the_example_learns_and_its_spring_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) < 40
    module = ModuleType("spring_of_the_page")  # its dataclass asks for the module that it is defined in
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block[1], module.__dict__)
    frozen, distances = small_study.backbone().model.state_dict(), []
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        method = module.__dict__["Spring"](small_study.context(), {"lr": 0.01, "weight": weight})
        state = small_study.teach(method, 0).state()
        distances.append(sum(float((v - frozen[k]).square().sum()) for k, v in state.items()))
    loose, held = distances
    assert 0 < held < loose

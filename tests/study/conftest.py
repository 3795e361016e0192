"""The small study in a folder of its own, ready to be learned."""

from pathlib import Path

import pytest

from lib.study import code_digests
from tests.support import small_study


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the small study's tasks and features; the code's digests are read only once."""
    monkeypatch.setattr(code_digests, "of_method", small_study.code_of_method)
    small_study.prepare(tmp_path)
    return tmp_path

"""Files as the last commit has them: what a reader's own runs have written does not count in a test."""

import pytest

from lib.report import committed
from lib.study.studies import ROOT


def committed_files(folder: str) -> dict[str, bytes]:
    """The committed files of a folder by name; the test is skipped where there is no git."""
    files = committed.committed(ROOT / folder)
    if not files:
        pytest.skip(f"no commit to read {folder} from")
    return files

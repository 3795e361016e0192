"""Studies as short files: what they extend, what they leave out, and what is wrong with one."""

from pathlib import Path

import pytest
import yaml

from lib.settings import ParamsError
from lib.study import params, studies

BASE = {"study": "mini", "train": {"steps": 5, "batch": 2}, "runs": {"a": 1, "b": 2}, "cut": [1, 2]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project with the numbers of BASE."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(BASE))
    return tmp_path


def write(home: Path, name: str, text: str) -> Path:
    file = home / "studies" / f"{name}.yaml"
    file.write_text(text)
    return file


def test_mappings_merge_and_anything_else_replaces(home: Path) -> None:
    file = write(home, "few", "extends: mini\ntrain: {steps: 3}\ncut: [4]\nreference: null\n")
    changed = {"study": "few", "train": {"steps": 3, "batch": 2}, "cut": [4], "reference": None}
    assert studies.read(file) == BASE | changed


def test_what_is_left_out_goes_before_the_merge(home: Path) -> None:
    file = write(home, "few", "extends: mini\nwithout: [runs, train.batch]\nruns: {c: 3}\n")
    assert studies.read(file) == {"study": "few", "train": {"steps": 5}, "runs": {"c": 3}, "cut": [1, 2]}


def test_a_study_may_extend_one_that_extends(home: Path) -> None:
    write(home, "few", "extends: mini\nwithout: [cut]\n")
    file = write(home, "fewer", "extends: few\ntrain: {steps: 1}\n")
    assert studies.read(file)["train"] == {"steps": 1, "batch": 2}
    assert "cut" not in studies.read(file)
    assert studies.names(home) == ["mini", "few", "fewer"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("extends: nowhere\n", "nowhere"),
        ("extends: few\n", "itself"),
        ("extends: mini\nwithout: [train.lr]\n", "train.lr"),
        ("extends: mini\nwithout: [cut.lr]\n", "cut.lr"),
        ("extends: mini\nstudy: many\n", "many"),
    ],
)
def test_a_file_that_cannot_be_merged_is_named_with_the_value(home: Path, text: str, word: str) -> None:
    with pytest.raises(ParamsError, match=rf"(?s)({word}.*|few.*{word})"):
        studies.read(write(home, "few", text))


@pytest.mark.usefixtures("own_pictures")
@pytest.mark.parametrize("name", studies.names())
def test_every_study_of_the_project_can_be_read(name: str) -> None:
    assert params.load(studies.file_of(name)).study == name

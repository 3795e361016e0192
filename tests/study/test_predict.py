"""Answers for a reader's own pictures: who answers, what is refused, the command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data.tasks import TaskError
from lib.settings import ParamsError
from lib.study import predict
from lib.study.opened import OpenStudy
from tests.support import small_study

LEARNED = [name.replace("_", " ") for name in small_study.CLASSES]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> OpenStudy:
    """The small study with a finished run of `beyond`."""
    home = tmp_path_factory.mktemp("home")
    small_study.write_pictures(home / "pictures")
    changes = {"runs": {"beyond": {"seeds": [0], "set": {}}}, "reference": None}
    opened = small_study.open_at(home, small_study.study(changes))
    opened.learn("beyond--I--s0")
    return opened


def pictures(number: int) -> torch.Tensor:
    return small_study.task(number).test.images


def test_learned_names_are_answered_by_a_router_and_others_by_clip(study: OpenStudy) -> None:
    found = predict.predict(study, pictures(0), [*LEARNED, "a violin"])
    assert len(found) == 12
    for line in found.to_dict("records"):
        by = ("router of ", "regression of ") if line["answer"] in LEARNED else ("CLIP",)
        assert line["answered by"].startswith(by)
        assert 0 <= line["its chance"] <= line["chance"] <= 1
    assert set(found["look"]) <= {"unknown", *small_study.NAMES}


def test_answers_are_among_the_names_alone_and_chances_are_of_these(study: OpenStudy) -> None:
    found = predict.predict(study, pictures(1), ["a violin", "a drum"])
    assert set(found["answer"]) <= {"a violin", "a drum"}
    torch.testing.assert_close(
        torch.tensor((found["chance"] + found["its chance"]).to_numpy()), torch.ones(12).double(), atol=2e-3, rtol=0
    )
    assert set(predict.predict(study, pictures(1), [])["answer"]) <= set(LEARNED)


def test_a_single_picture_is_answered_as_among_others(study: OpenStudy) -> None:
    whole = predict.predict(study, pictures(0), LEARNED)
    alone = predict.predict(study, pictures(0)[3:4], LEARNED)
    assert alone.loc[0, "answer"] == whole.loc[3, "answer"]
    assert abs(float(alone.loc[0, "chance"]) - float(whole.loc[3, "chance"])) <= 0.002


def test_without_a_finished_run_it_says_how_to_make_one(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path / "pictures")
    changes = {"runs": {"beyond": {"seeds": [0], "set": {}}}, "reference": None}
    opened = small_study.open_at(tmp_path, small_study.study(changes))
    with pytest.raises(ParamsError, match="no finished run of beyond.*learn@beyond--I--s0"):
        predict.predict(opened, pictures(0), LEARNED)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TaskError, match=str(folder)):
            predict.read(folder, 32)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_a_table_or_json(
    study: OpenStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, as_json: bool
) -> None:
    folder = study.root / "pictures" / "red" / "test" / "upright"
    given: list[Any] = [
        "predict",
        str(folder),
        "--names",
        "upright, across ,a violin",
        *(["--json"] if as_json else []),
    ]
    monkeypatch.setattr("sys.argv", given)
    monkeypatch.setattr(predict, "open_study", lambda _: study)
    predict.main()
    out = capsys.readouterr().out
    if as_json:
        assert [line["picture"] for line in json.loads(out)] == [f"{number}.png" for number in range(4)]
    else:
        assert out.split()[:3] == ["picture", "answer", "chance"]

"""The params file: what the committed one holds, and what is checked before anything starts.

What is refused stands in one table, tests/project/test_bad_input.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from lib.settings import LARGEST, Count, ParamsError, Rate, build
from lib.strict_yaml import read_yaml
from lib.study import params, studies
from lib.study.plan import check
from lib.study.studies import ROOT
from tests.support import small_study

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_committed_params_load_as_they_are_written() -> None:
    study = params.load()
    assert study.study == "mini"
    assert study.train.steps == COMMITTED["train"]["steps"]
    assert study.tasks.orders == COMMITTED["tasks"]["orders"]
    assert study.methods == COMMITTED["methods"]
    assert study.runs["moe_adapters"].by_task
    assert study.runs["moe_adapters+no_freeze"].set == {"freeze": 0}
    written = COMMITTED["runs"]["finetune"]
    assert study.runs["finetune"] == params.Run(written["seeds"], written["set"], written["orders"], written["story"])
    assert study.reference == params.ReferenceSettings(**COMMITTED["reference"])
    check(study)


def test_settings_of_a_run_and_what_it_sets_of_the_tasks() -> None:
    run = {"seeds": [0], "set": {"lr": 0.5, "shots": 3, "cut": 2}}
    study = small_study.study({"runs.finetune+few": run})
    assert params.settings_of(study, "finetune+few") == {"lr": 0.5}
    assert params.special(study, "finetune+few") == {"shots": 3, "cut": 2, "steps": 0, "data_seed": 0}


def test_learning_rates_by_task() -> None:
    red, green, _ = small_study.sequence()[0]
    method = small_study.method("finetune", lr={"red": 0.1, "green": 1})
    assert (method.learning_rate(red), method.learning_rate(green)) == (0.1, 1.0)


def test_a_missing_file_or_study_names_those_there_are(tmp_path: Path) -> None:
    for missing in (tmp_path / "nope.yaml", tmp_path):
        with pytest.raises(ParamsError, match=f"{missing}; .* mini"):
            params.load(missing)
    with pytest.raises(ParamsError, match="'mni'; .*mini"):
        studies.file_of("mni")


# --- build


@dataclass(frozen=True)
class Inner:
    rate: Rate | dict[str, Rate] = 1.0
    kind: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        if self.rate == 7:
            raise ValueError("rate is 7; choose another")


@dataclass(frozen=True)
class Outer:
    count: Count
    inner: Inner | None = None
    several: dict[str, Inner] = field(default_factory=dict)
    rest: Any = None


def test_an_int_is_taken_for_a_float_and_what_any_holds_stays() -> None:
    rest = {"a": [1, 2.5, "1", None, True]}
    built = build(Outer, {"count": 3, "inner": {"rate": 1}, "several": {"a": {"rate": {"b": 2}}}, "rest": rest}, "it")
    assert built == Outer(3, Inner(1.0), {"a": Inner({"b": 2.0})}, rest)
    assert isinstance(built.inner.rate, float)
    assert build(Outer, {"count": LARGEST}, "it").count == LARGEST


REFUSED: list[tuple[Any, list[str]]] = [
    (None, ["None", "mapping"]),
    ({}, ["missing key count"]),
    ({"count": "1"}, ["count is '1'"]),
    ({"count": True}, ["count is True"]),
    ({"count": 1.0}, ["count is 1.0"]),
    ({"count": LARGEST + 1}, [str(LARGEST)]),
    ({"count": 0, "inner": {"rate": True}}, ["inner.rate is True"]),
    ({"count": 0, "inner": {"rate": float("nan")}}, ["inner.rate is nan"]),
    ({"count": 0, "inner": {"rate": float("inf")}}, ["inner.rate is inf"]),
    ({"count": 0, "inner": {"rate": 10**400}}, ["inner.rate is 1000"]),
    ({"count": 0, "inner": {"rate": {"b": 0}}}, ["inner.rate.b is 0"]),
    ({"count": 0, "inner": {"rate": "x"}}, ["inner.rate is 'x'", "number or a mapping"]),
    ({"count": 0, "inner": {"rate": 7}}, ["inner: rate is 7; choose another"]),
    ({"count": 0, "several": {"a": {"kind": "z"}}}, ["several.a.kind is 'z'", "'x' or 'y'"]),
    ({"count": 0, "several": {"a": {"kinds": "x"}}}, ["unknown key several.a.kinds", "rate, kind"]),
    ({"count": -1, "inner": {"kind": "z"}, "x": 1}, ["count is -1", "inner.kind", "unknown key x"]),
    ({"count": "x" * 5000}, ["count is 'xxx"]),
    ({"count": 0, "rest": {(1, 2): 3}}, ["tuple"]),
]


@pytest.mark.parametrize(("raw", "words"), REFUSED)
def test_everything_wrong_is_named_in_one_short_line(raw: Any, words: list[str]) -> None:
    with pytest.raises(ParamsError, match="^it") as caught:
        build(Outer, raw, "it")
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert "\n" not in message
    assert len(message) < 600


# --- YAML


def test_a_merged_key_may_be_set_differently_and_merges_may_be_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("deep: {one: {a: &a {x: 1}, b: &b {<<: *a, x: 2}}}\nc: {<<: *b, x: 3}\n")
    content = read_yaml(tmp_path / "a.yaml", "it")
    assert content == {"deep": {"one": {"a": {"x": 1}, "b": {"x": 2}}}, "c": {"x": 3}}


# --- check

UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "no such method": ({"methods.magic": {}, "runs": {"magic": {"seeds": [0], "set": {}}}}, "'magic'"),
    "more chosen than experts": ({"runs.moe_adapters": {"seeds": [0], "set": {"top_k": 9}}}, "run moe.*top_k is 9"),
    "text for a number": ({"runs.moe_adapters": {"seeds": [0], "set": {"top_k": "two"}}}, "top_k is 'two'"),
    "a task without a rate": ({"methods.finetune": {"lr": {"red": 1.0, "blue": 1.0}}}, "run finetune: .*green"),
    "no reference set": ({"runs.zscl": {"seeds": [0], "set": {}}, "reference": None}, "run zscl.*reference"),
    "a task that is misspelt": ({"tasks.orders": {"I": ["red"], "II": ["rde"]}}, "orders.II has rde.*red"),
    "a task that mini does not have": ({"tasks.source": "mini", "tasks.orders.I": ["digitz"]}, "digitz.*digits"),
}


@pytest.mark.parametrize(("changes", "words"), UNFIT.values(), ids=UNFIT)
def test_what_a_method_or_a_source_cannot_do_is_refused_before_anything_starts(
    changes: dict[str, Any], words: str
) -> None:
    check(small_study.study())
    with pytest.raises(ParamsError, match=words):
        check(small_study.study(changes))


# --- studies as short files: what they extend, what they leave out, and what is wrong with one

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

"""The params file: the committed one loads, and whatever is wrong with another is said before anything runs."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib import settings as strict
from lib.study import params, plan
from lib.study.paths import ROOT
from tests.support import small_study

GONE = object()
COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


def changed(path: str, value: object) -> dict[str, Any]:
    """The committed params with one value set, or gone."""
    raw = copy.deepcopy(COMMITTED)
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return raw


def test_the_committed_params_load_as_they_are_written() -> None:
    study = params.load()
    assert study.study == "mini"
    assert study.train.steps == COMMITTED["train"]["steps"]
    assert study.tasks.orders == COMMITTED["tasks"]["orders"]
    assert study.methods["moe_adapters"] == COMMITTED["methods"]["moe_adapters"]
    assert study.runs["moe_adapters"].by_task
    assert study.runs["moe_adapters+no_freeze"].set == {"freeze": 0}
    written = COMMITTED["runs"]["finetune"]
    assert study.runs["finetune"] == params.Run(written["seeds"], written["set"], story=written["story"])
    assert study.compute.threads == COMMITTED["compute"]["threads"]
    assert study.reference == params.Reference(**COMMITTED["reference"])


def test_what_may_be_left_out_has_its_default(file: Path) -> None:
    raw = {k: v for k, v in COMMITTED.items() if k not in ("pretrain", "reference")}
    file.write_text(yaml.safe_dump(raw | {"runs": {"finetune": {"seeds": [0], "set": {}}}}, sort_keys=False))
    found = params.load(file)
    assert (found.pretrain, found.reference) == (None, None)
    run = found.runs["finetune"]
    assert (run.orders, run.story, run.by_task) == ([], False, False)


def test_the_method_of_a_run_is_its_name_without_the_variant() -> None:
    assert [params.method_of(run) for run in ("adapter", "adapter+wide", "adapter+a+b")] == ["adapter"] * 3


def test_what_a_run_may_set_of_the_tasks_and_steps_is_kept(file: Path) -> None:
    run = {"seeds": [0], "set": {"lr": 0.5, "shots": 3, "cut": 2}, "orders": ["II", "I"]}
    file.write_text(yaml.safe_dump(changed("runs.finetune+few", run), sort_keys=False))
    found = params.load(file).runs["finetune+few"]
    assert (found.set, found.orders) == (run["set"], ["II", "I"])


def test_a_whole_number_is_taken_where_a_fraction_is_meant(file: Path) -> None:
    file.write_text(yaml.safe_dump(changed("selector.lr", 1), sort_keys=False))
    assert isinstance(params.load(file).selector.lr, float)


WRONG = [
    ("train.stepz", 5, "train: unknown key stepz; allowed: steps, batch, warmup, smoothing, crop"),
    ("colour", "red", "params.yaml: unknown key colour; allowed: study, backbone"),
    ("train.steps", GONE, "train: missing key steps"),
    ("backbone", GONE, "missing key backbone"),
    ("train.steps", "many", "train: steps is 'many'; expected int"),
    ("train.steps", 1.5, "train: steps is 1.5; expected int"),
    ("train.steps", True, "train: steps is True; expected int"),
    ("train.crop", True, "train: crop is True; expected float"),
    ("runs.finetune.by_task", 1, "by_task is 1; expected bool"),
    ("train", 7, "train: expected a mapping, found 7"),
    ("tasks.source", "web", "tasks: source is 'web'; allowed: mini, folder"),
    ("tasks.templates", ["{}", 3], r"tasks: templates\[1\] is 3; expected str"),
    ("tasks.orders", {"I": "digits"}, "tasks: orders.I is 'digits'; expected list"),
    ("tasks.orders", {}, "tasks.orders is empty"),
    ("pretrain.stepz", 5, "pretrain: unknown key stepz; allowed: seed, pictures"),
    ("pretrain", 7, "pretrain is 7; expected Pretrain or None"),
    ("runs.finetune.method", "finetune", "runs.finetune: unknown key method; allowed: seeds, set, orders,"),
    (
        "runs.fintune",
        {"seeds": [0], "set": {}},
        "runs.fintune is a run of method 'fintune'; there are: zero_shot, ",
    ),
    ("runs.+mine", {"seeds": [0], "set": {}}, "is a run of method ''; there are: zero_shot, "),
    ("runs.finetune.seeds", [], "runs.finetune.seeds is empty; give at least one"),
    ("runs.finetune.orders", ["I", "IV"], "runs.finetune.orders has IV; there are: I, II, III"),
    ("runs.finetune.set", {"experts": 3}, "runs.finetune.set has experts; allowed: lr, shots, cut"),
    ("runs.finetune.set", GONE, "runs.finetune: missing key set"),
    ("runs.zero_shot.set", {"lr": 3}, "runs.zero_shot.set has lr; allowed: shots, cut"),
    ("runs.finetune.set", {"shots": -1}, "runs.finetune.set.shots is -1; it is a whole number, 0 or more"),
    ("runs.finetune.set", {"cut": 0}, "runs.finetune.set.cut is 0; it is a whole number, 1 or more"),
    ("runs.finetune.set", {"cut": True}, "runs.finetune.set.cut is True; it is a whole number"),
    ("runs.finetune.set", {"shots": 1.5}, "runs.finetune.set.shots is 1.5; it is a whole number"),
    ("compute.threads", "all", "compute: threads is 'all'; expected int"),
    ("reference.source", "web", "reference: source is 'web'; allowed: mini, folder"),
    ("reference.size", 3, "reference: unknown key size; allowed: source, root, pictures, seed"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_what_is_wrong_is_named(file: Path, path: str, value: object, message: str) -> None:
    file.write_text(yaml.safe_dump(changed(path, value), sort_keys=False))
    with pytest.raises(params.ParamsError, match=message):
        params.load(file)


def test_a_key_given_twice_is_refused(file: Path) -> None:
    file.write_text((ROOT / "params.yaml").read_text() + "train: {steps: 1}\n")
    with pytest.raises(params.ParamsError, match="(?s)not valid YAML: key train given twice"):
        params.load(file)


def test_a_merged_key_may_be_set_differently(file: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("<<: *adapter", "<<: *adapter\n    bottleneck: 7", 1)
    file.write_text(text)
    study = params.load(file)
    assert study.methods["moe_adapters"]["bottleneck"] == 7
    assert study.methods["adapter"]["bottleneck"] == COMMITTED["methods"]["adapter"]["bottleneck"] != 7


def test_merges_of_merges_are_not_taken_for_keys_given_twice() -> None:
    text = "deep: {one: {a: &a {x: 1}, b: &b {<<: *a, x: 2}}}\nc: {<<: *b, x: 3}\n"
    found = yaml.load(text, strict.UniqueKeyLoader)
    assert found == {"deep": {"one": {"a": {"x": 1}, "b": {"x": 2}}}, "c": {"x": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", "params.yaml is not valid YAML"),
        ("", "expected a mapping, found None"),
        ("- 1\n", "expected a mapping"),
        ("1: 2\n", "unknown key 1; allowed: study"),
    ],
)
def test_what_is_no_params_file_is_said(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(params.ParamsError, match=message):
        params.load(file)


def test_a_missing_file_names_the_studies_there_are(tmp_path: Path) -> None:
    with pytest.raises(params.ParamsError, match="no params file .*nope.yaml; the studies here are: mini"):
        params.load(tmp_path / "nope.yaml")
    with pytest.raises(params.ParamsError, match="the studies here are: mini"):
        params.load(tmp_path)


def test_an_unknown_study_names_the_studies_there_are() -> None:
    assert plan.folder_of("mini") == Path()
    with pytest.raises(params.ParamsError, match="no study 'mni'; there are: mini"):
        plan.folder_of("mni")


def test_a_choice_of_types_is_said_in_words() -> None:
    hints = {"blocks": params.Literal["all", "none"] | list[int], "rate": float | dict[str, float]}
    for name, expected in (
        ("blocks", r"all or none or list\[int\]"),
        ("rate", r"float or dict\[str, float\]"),
    ):
        with pytest.raises(params.ParamsError, match=f"{name} is 'x'; expected {expected}"):
            strict._value(hints[name], "x", name)


def test_learning_rates_by_task() -> None:
    made, _ = small_study.sequence()
    method = small_study.method("finetune", lr={"red": 0.1, "green": 1})
    assert (method.learning_rate(made[0]), method.learning_rate(made[1])) == (0.1, 1.0)
    with pytest.raises(params.ParamsError, match="lr has no entry for task blue; it has: red, green"):
        method.learning_rate(made[2])


SETTINGS = [
    ("moe_adapters", {"top_k": 5}, "top_k is 5; choose 1 to 4, the number of experts"),
    ("moe_adapters", {"freeze": 9}, "freeze is 9; choose 0 to 4"),
    ("moe_adapters", {"expertz": 4}, "settings of MoEAdapters: unknown key expertz; allowed: lr, bottleneck"),
    (
        "moe_adapters",
        {"image_blocks": "some"},
        "image_blocks is 'some'; expected all or first or last or none or",
    ),
    ("moe_adapters", {"image_blocks": [7]}, "image_blocks has 7; the tower's blocks are 0 to 1"),
    ("moe_adapters", {"router": "both"}, "router is 'both'; allowed: task, shared"),
    ("moe_adapters", {"freeze_rule": "some"}, "freeze_rule is 'some'; allowed: most_used, most_weighted,"),
    ("moe_adapters", {"selector": "some"}, "selector is 'some'; allowed: autoencoder, gaussian"),
    ("moe_adapters", {"text_router_token": "mid"}, "text_router_token is 'mid'; allowed: start, end"),
    ("adapter", {"dropout": 1.5}, "dropout is 1.5; it is a share"),
    ("adapter", {"top_k": 1}, "settings of Adapter: unknown key top_k"),
    ("finetune", {"lr": "fast"}, r"lr is 'fast'; expected float \(more than 0\) or"),
    ("zero_shot", {"lr": 1.0}, "settings of ZeroShot: unknown key lr"),
]


@pytest.mark.parametrize(("name", "settings", "message"), SETTINGS)
def test_wrong_settings_are_said_before_training(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_study.method(name, **settings)

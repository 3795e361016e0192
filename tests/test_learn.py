"""A whole small study: chains, interruptions, determinism, and what is refused before training."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import small_study
import torch

from lib import learn, params
from lib.checkpoint import CheckpointError
from lib.train import TrainingError

KEYS = {
    *("study", "method", "variant", "order", "seed", "tasks", "classes", "accuracy", "transfer", "average"),
    *("last", "forgetting", "trainable_parameters", "stored_bytes"),
}
WHOLE = ["zero_shot", "finetune", "finetune_single", "adapter", "moe_adapters"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    return tmp_path


def study(run: str = "moe_adapters", changes: dict[str, Any] | None = None, **settings: Any) -> params.Study:
    return small_study.study(
        {"runs": {run: {"method": run, "seeds": [0, 1], "set": {}} | settings}} | (changes or {})
    )


def result(home: Path, run: str = "moe_adapters", seed: int = 0) -> Path:
    return home / "reports" / "results" / "tiny" / f"{run}--I--s{seed}.json"


def held(home: Path, key: str = "moe_adapters--I--s0") -> list[bytes]:
    folder = home / "data" / "tiny" / "runs" / key
    return [(folder / name).read_bytes() for name in ("about.json", "state.safetensors")]


def chain(seed: int = 0) -> list[str]:
    return [f"moe_adapters--I--s{seed}--{number}-{name}" for number, name in enumerate(small_study.NAMES)]


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Learning task `number` is interrupted; returns the list of tasks whose training was begun."""
    begun, whole = [], learn.learn_task

    def watched(method: Any, task: Any, at: int, *rest: Any) -> list[float]:
        begun.append(at)
        if at == number:
            raise KeyboardInterrupt
        return whole(method, task, at, *rest)

    monkeypatch.setattr(learn, "learn_task", watched)
    return begun


@pytest.mark.parametrize("run", WHOLE)
def test_a_result_has_all_that_readers_count_on(home: Path, run: str) -> None:
    content = learn.learn(study(run), f"{run}--I--s0")
    assert json.loads(result(home, run).read_text()) == content
    assert set(content) >= KEYS
    ways = {"sample", "batch", "oracle"} if run == "moe_adapters" else {"sample"}
    for name in ("accuracy", "transfer", "average", "last", "forgetting"):
        assert set(content[name]) == ways
    assert (content["tasks"], content["classes"]) == (small_study.NAMES, [3, 3, 3])
    assert all([len(row) for row in content["accuracy"][way]] == [3, 3, 3] for way in ways)
    before = [
        100 * (k.zero_shot == t.test.labels).float().mean()
        for t, k in zip(*small_study.sequence(), strict=True)
    ]
    if run in ("zero_shot", "finetune_single"):  # what is not learned yet is CLIP's
        assert content["accuracy"]["sample"][0][1:] == pytest.approx([float(x) for x in before[1:]], abs=1e-3)
    cost = json.loads((home / "reports" / "cost" / "tiny" / f"{run}--I--s0.json").read_text())
    assert list(cost["seconds"]) == small_study.NAMES
    assert not (home / "data" / "tiny" / "scratch" / f"{run}--I--s0").exists()


def test_routes_are_counted_for_every_task(home: Path) -> None:
    routed = learn.learn(study(), "moe_adapters--I--s0")["routed"]
    for rows in (routed[way] for way in ("sample", "batch", "oracle")):
        assert [[len(counts) for counts in row] for row in rows] == [[2] * 3, [3] * 3, [4] * 3]
        assert all(sum(counts) == 12 for row in rows for counts in row)
    assert routed["oracle"][1] == [[12, 0, 0], [0, 12, 0], [0, 0, 12]]


def test_a_chain_of_stages_gives_the_bytes_of_one_whole_stage(home: Path) -> None:
    learn.learn(study(), "moe_adapters--I--s0")
    whole = result(home).read_bytes(), held(home)
    result(home).unlink()
    for number, key in enumerate(chain()):
        assert not result(home).exists()
        content = learn.learn(study(by_task=True), key)
        assert content["tasks"] == small_study.NAMES[: number + 1]
    assert (result(home).read_bytes(), held(home, chain()[-1])) == whole


@pytest.mark.parametrize("run", ["moe_adapters", "finetune_single", "finetune"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_bytes(home: Path, run: str, at: int) -> None:
    key = f"{run}--I--s0"
    learn.learn(study(run), key)
    undisturbed = result(home, run).read_bytes(), held(home, key)
    result(home, run).unlink()
    shutil.rmtree(home / "data" / "tiny" / "runs")
    with pytest.MonkeyPatch.context() as patch:
        assert stop_at(patch, at) == []
        with pytest.raises(KeyboardInterrupt):
            learn.learn(study(run), key)
    assert not result(home, run).exists()
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 9)
        learn.learn(study(run), key)
    assert begun == list(range(at, 3))
    assert (result(home, run).read_bytes(), held(home, key)) == undisturbed


@pytest.mark.parametrize("run", ["moe_adapters", "finetune_single", "finetune"])
def test_a_kill_after_the_last_task_trains_nothing_again(home: Path, run: str) -> None:
    key = f"{run}--I--s0"
    learn.learn(study(run), key)
    undisturbed = result(home, run).read_bytes(), held(home, key)
    result(home, run).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn.results, "result", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn.learn(study(run), key)
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 0)
        learn.learn(study(run), key)
    assert begun == []
    assert (result(home, run).read_bytes(), held(home, key)) == undisturbed


SLOWER = {"methods.moe_adapters": small_study.MOE | {"lr": 0.002}}
CHANGES = [{"train.steps": 5}, {"train.crop": 0.8}, {"selector.code": 5}, SLOWER, {}]


@pytest.mark.parametrize("changes", CHANGES)
def test_progress_under_other_settings_is_not_taken_up(home: Path, changes: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            learn.learn(study(), "moe_adapters--I--s0")
    if not changes:  # then the code itself is another
        (home / "lib").mkdir()
        (home / "lib" / "new.py").write_text("CHANGED = True\n")
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            learn.learn(study(changes=changes), "moe_adapters--I--s0")
    assert begun == [0]


def test_same_seed_same_bytes_and_another_seed_others(home: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        learn.learn(study(), f"moe_adapters--I--s{seed}")
        made.append((result(home, seed=seed).read_bytes(), held(home, f"moe_adapters--I--s{seed}")[1]))
    assert made[0] == made[1]
    assert made[0][1] != made[2][1]
    assert json.loads(made[0][0])["losses"] != json.loads(made[2][0])["losses"]


def test_a_loss_that_is_not_a_number_keeps_the_last_good_state(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn.learn(study(by_task=True), chain()[0])
    good = held(home, chain()[0])
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(learn.METHODS["moe_adapters"], "loss", lambda *_: nan)
    with pytest.raises(TrainingError, match="not a number at step 0 of task green"):
        learn.learn(study(by_task=True), chain()[1])
    assert held(home, chain()[0]) == good
    assert not (home / "data" / "tiny" / "runs" / chain()[1]).exists()
    assert not list((home / "data" / "tiny" / "scratch").rglob("*.safetensors"))
    assert not result(home).exists()


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "learn_task", lambda *_: pytest.fail("training began"))


WRONG = [
    ("moe_adapters--I--s7", {}, "study tiny has no stage 'moe_adapters--I--s7'; it has: moe_adapters--I--s0"),
    (
        "moe_adapters--I--s0",
        {"methods.moe_adapters": small_study.MOE | {"top_k": 9}},
        "top_k is 9; choose 1 to 4",
    ),
    (
        "moe_adapters--I--s0",
        {"methods.moe_adapters": small_study.MOE | {"lr": {"red": 0.1, "green": 0.1}}},
        "lr has no entry for task blue; it has: red, green",
    ),
    ("moe_adapters--I--s0", {"methods.moe_adapters": {"lr": 0.1}}, "missing key balance, bottleneck"),
    ("moe_adapters--I--s0", {"tasks.orders": {"I": ["red", "rot"]}}, "rot.safetensors is no prepared task"),
    (
        "lwf--I--s0",
        {"methods.lwf": {}, "runs": {"lwf": {"method": "lwf", "seeds": [0], "set": {}}}},
        "there is no method 'lwf'; there are: zero_shot,",
    ),
]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("key", "changes", "message"), WRONG)
def test_bad_input_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, key: str, changes: dict[str, Any], message: str
) -> None:
    untouched(monkeypatch)
    with pytest.raises(ValueError, match=message):
        learn.learn(study(changes=changes), key)


def test_a_missing_damaged_or_foreign_parent_is_refused_before_training(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        untouched(patch)
        with pytest.raises(
            CheckpointError, match=f"no checkpoint .*{chain()[0]}; the stages before this one"
        ):
            learn.learn(study(by_task=True), chain()[1])
    for seed in (0, 1):
        learn.learn(study(by_task=True), chain(seed)[0])
    untouched(monkeypatch)
    first, other = (home / "data" / "tiny" / "runs" / chain(seed)[0] for seed in (0, 1))
    with pytest.raises(
        CheckpointError, match="belongs to run moe_adapters with .*'lr': 0.01.* not .*'lr': 0.5"
    ):
        learn.learn(study(by_task=True, set={"lr": 0.5}), chain()[1])
    shutil.copytree(first, first.with_name(chain()[1]))
    with pytest.raises(CheckpointError, match=r"'I', 0, \['red'\]\), not .*'I', 0, \['red', 'green'\]\)"):
        learn.learn(study(by_task=True), chain()[2])
    with monkeypatch.context() as patch:
        foreign = dataclasses.replace(small_study.backbone(), fingerprint="f" * 64)
        patch.setattr(learn, "load_clip", lambda model, pretrained: foreign)
        with pytest.raises(CheckpointError, match="belongs to another backbone .*, not ffffffffffff"):
            learn.learn(study(by_task=True), chain()[1])
    (first / "state.safetensors").write_bytes((first / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="state.safetensors is damaged"):
        learn.learn(study(by_task=True), chain()[1])
    shutil.rmtree(first)
    shutil.copytree(other, first)
    with pytest.raises(CheckpointError, match=r"\(study, order, seed, tasks\) .*'I', 1, .* not .*'I', 0,"):
        learn.learn(study(by_task=True), chain()[1])

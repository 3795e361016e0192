"""A whole small study: results, chains, interruptions, determinism."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data import frozen as features
from lib.data import tasks
from lib.data.tasks import Pictures, Task
from lib.study import code_digests as sources
from lib.study import params
from lib.study import stage as learn
from lib.study.paths import ROOT
from tests.support import small_study
from tests.support.small_run import chain, held, result, stop_at, study

KEYS = {
    *("study", "method", "variant", "order", "seed", "tasks", "classes", "accuracy", "transfer", "average"),
    *("last", "forgetting", "trainable_parameters", "stored_bytes"),
}
KEY = "moe_adapters--I--s0"
WHOLE = ["zero_shot", "joint", "finetune", "finetune_single", "adapter", "moe_adapters"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    return tmp_path


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
    before = [100 * (k.zero_shot == t.test.labels).float().mean() for t, k in zip(*small_study.sequence(), strict=True)]
    if run in ("zero_shot", "finetune_single"):  # what is not learned yet is CLIP's
        assert content["accuracy"]["sample"][0][1:] == pytest.approx([float(x) for x in before[1:]], abs=1e-3)
    cost = json.loads((home / "reports" / "cost" / "tiny" / f"{run}--I--s0.json").read_text())
    assert list(cost["seconds"]) == small_study.NAMES
    assert not (home / "data" / "tiny" / "scratch" / f"{run}--I--s0").exists()


def test_routes_are_counted_for_every_task(home: Path) -> None:
    routed = learn.learn(study(), KEY)["routed"]
    for rows in (routed[way] for way in ("sample", "batch", "oracle")):
        assert [[len(counts) for counts in row] for row in rows] == [[2] * 3, [3] * 3, [4] * 3]
        assert all(sum(counts) == 12 for row in rows for counts in row)
    assert routed["oracle"][1] == [[12, 0, 0], [0, 12, 0], [0, 0, 12]]


def test_a_chain_of_stages_gives_the_bytes_of_one_whole_stage(home: Path) -> None:
    learn.learn(study(), KEY)
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


@pytest.mark.parametrize("run", ["moe_adapters", "finetune_single", "finetune", "joint"])
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
CHANGES = [{"train.steps": 5}, {"train.crop": 0.8}, {"selector.code": 5}, SLOWER]


def stop_first() -> None:
    """A study whose second task is interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            learn.learn(study(), KEY)


def begun_by(changed: params.Study) -> list[int]:
    """Learns a study; returns the tasks whose training was begun."""
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 9)
        learn.learn(changed, KEY)
    return begun


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("changes", CHANGES)
def test_progress_under_other_settings_is_not_taken_up(changes: dict[str, Any]) -> None:
    stop_first()
    assert begun_by(study(changes=changes)) == [0, 1, 2]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("special", [{"shots": 3}, {"steps": 5}])
def test_progress_with_other_pictures_or_steps_is_not_taken_up(special: dict[str, int]) -> None:
    stop_first()
    assert begun_by(study(set=special)) == [0, 1, 2]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("module", "begun"), [("train", [0, 1, 2]), ("methods/finetune", [1, 2])])
def test_progress_of_other_code_is_taken_up_only_where_it_does_not_matter(
    module: str, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "of_method", small_study.code_of_method.__wrapped__)
    stop_first()
    code, digest = (ROOT / "lib" / f"{module}.py").read_text(), sources.digest
    monkeypatch.setattr(sources, "digest", lambda source: "other" if source == code else digest(source))
    assert begun_by(study()) == begun


def test_a_run_with_fewer_shots_and_other_steps_learns_just_that(home: Path) -> None:
    few = study(set={"shots": 2, "steps": 11})
    scene = learn.scene(few, "moe_adapters", "I", 0)
    assert [len(task.train) for task in scene.tasks] == [6] * 3
    assert [len(task.test) for task in scene.tasks] == [12] * 3
    assert (scene.train.steps, scene.train.batch) == (11, few.train.batch)
    content = learn.learn(few, KEY)
    assert [len(losses) for losses in content["losses"]] == [2] * 3  # every tenth of eleven


def test_a_run_with_tasks_cut_in_two_learns_their_parts_in_order(home: Path) -> None:
    splits = [[getattr(small_study.task(number), split) for number in (0, 1)] for split in tasks.SPLITS]
    train, test = (together(*each) for each in splits)
    wide = Task("wide", list("abcdef"), ["{}"], train, test)
    tasks.save(wide, home / "data" / "tiny" / "tasks" / "wide.safetensors")
    known = features.compute(small_study.backbone(), wide, study().selector)
    features.save(known, home / "data" / "tiny" / "features" / "wide.safetensors")
    cut = study(changes={"tasks.orders": {"I": ["wide"]}}, set={"cut": 2, "shots": 5})
    scene = learn.scene(cut, "moe_adapters", "I", 3)
    assert [(lesson.number, lesson.seed) for lesson in scene.lessons] == [(0, [3, 0]), (1, [3, 1])]
    assert [task.classes for task in scene.tasks] == [["a", "b", "c"], ["d", "e", "f"]]
    assert [task.train.labels.bincount().tolist() for task in scene.tasks] == [[5, 5, 5]] * 2
    content = learn.learn(cut, KEY)
    assert (content["tasks"], content["classes"]) == (["wide.1", "wide.2"], [3, 3])


def together(first: Pictures, second: Pictures) -> Pictures:
    """Two tasks' pictures of three classes each as six classes."""
    return Pictures(torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels + 3]))


def test_joint_learns_everything_at_once(home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        begun = stop_at(patch, 9)
        content = learn.learn(study("joint", {"train.steps": 10}), "joint--I--s0")
    assert begun == [0]
    assert [len(losses) for losses in content["losses"]] == [3, 0, 0]  # thirty steps, then none
    rows = content["accuracy"]["sample"]
    assert rows[0] == rows[1] == rows[2]
    assert content["forgetting"] == {"sample": 0.0}
    assert content["tasks"] == small_study.NAMES


def test_same_seed_same_bytes_and_another_seed_others(home: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        learn.learn(study(), f"moe_adapters--I--s{seed}")
        made.append((result(home, seed=seed).read_bytes(), held(home, f"moe_adapters--I--s{seed}")[1]))
    assert made[0] == made[1]
    assert made[0][1] != made[2][1]
    assert json.loads(made[0][0])["losses"] != json.loads(made[2][0])["losses"]

"""A whole small study: results, interruptions and kills, determinism."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data import frozen, tasks
from lib.data.tasks import Pictures, Task
from lib.study import checkpoint, code_digests, plan, stage
from lib.study.checkpoint import About
from lib.study.code_digests import Digests
from lib.study.studies import ROOT
from lib.study.train import Row
from tests.support import killed_run, small_study
from tests.support.small_run import KEY, begun_by, held, interrupt, learn, result, stop_at, study

KEYS = {
    *("study", "method", "variant", "order", "seed", "tasks", "classes", "accuracy", "transfer", "average"),
    *("last", "forgetting", "trainable_parameters", "stored_bytes"),
}


@pytest.mark.parametrize("labels", ["own", "union"])
@pytest.mark.parametrize("run", ["zero_shot", "joint", "finetune", "finetune_single", "rail_primal", "moe_adapters"])
def test_a_result_has_all_that_readers_rely_on(home: Path, run: str, labels: str) -> None:
    content = learn(home, f"{run}--I--s0", study(run, {"tasks.labels": labels}))
    assert json.loads(result(home, run).read_text()) == content
    assert set(content) >= KEYS
    spaces = ("", "union_") if labels == "union" else ("",)
    decisions = {space + decision for space in spaces for decision in small_study.method(run).decisions}
    for name in ("accuracy", "transfer", "average", "last", "forgetting"):
        assert set(content[name]) == decisions
    assert (content["tasks"], content["classes"]) == (small_study.NAMES, [3, 3, 3])
    assert all([len(row) for row in content["accuracy"][decision]] == [3, 3, 3] for decision in decisions)
    pairs = zip(*small_study.sequence(), strict=True)
    zero_shot = [100 * (k.zero_shot == t.test.labels).float().mean().item() for t, k in pairs]
    told = {"zero_shot": "sample", "finetune_single": "sample", "rail_primal": "oracle", "moe_adapters": "oracle"}
    if run in told:  # CLIP answers what is not learned yet
        assert content["accuracy"][told[run]][0][1:] == pytest.approx(zero_shot[1:], abs=1e-3)
    assert set(content.get("routed", {})) == ({*small_study.method(run).decisions} if run == "moe_adapters" else set())
    cost = json.loads((home / "reports" / "cost" / "tiny" / f"{run}--I--s0.json").read_text())
    assert list(cost["seconds"]) == small_study.NAMES
    assert not (home / "data" / "tiny" / "scratch" / f"{run}--I--s0").exists()


def test_routes_are_counted_for_every_task(home: Path) -> None:
    routed = learn(home)["routed"]
    for rows in routed.values():
        assert [[len(counts) for counts in row] for row in rows] == [[2] * 3, [3] * 3, [4] * 3]
        assert all(sum(counts) == 12 for row in rows for counts in row)
    assert routed["oracle"][1] == [[12, 0, 0], [0, 12, 0], [0, 0, 12]]
    assert routed["lookup"][1] == [[12, 0, 0]] * 3  # all tasks have the same list of classes: it tells nothing


def test_a_run_by_task_also_leaves_the_checkpoints_before_the_last(home: Path) -> None:
    learn(home)
    whole = result(home).read_bytes(), held(home)
    made = study(by_task=True)
    learn(home, KEY, made)
    assert (result(home).read_bytes(), held(home)) == whole
    for number, folder in enumerate(plan.find(made, KEY).moments):
        opened = small_study.open_at(home, made)
        method = opened.method("moe_adapters")
        settings = json.loads(json.dumps(asdict(method.settings)))
        about, state = checkpoint.load(home / folder, opened.backbone.fingerprint, "moe_adapters", settings)
        method.restore(state)
        assert about.tasks == small_study.NAMES[: number + 1]


@pytest.mark.parametrize("run", ["moe_adapters", "finetune_single", "finetune"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_bytes(home: Path, run: str, at: int) -> None:
    key = f"{run}--I--s0"
    learn(home, key)
    undisturbed = result(home, run).read_bytes(), held(home, key)
    result(home, run).unlink()
    shutil.rmtree(home / "data" / "tiny" / "runs")
    interrupt(lambda: learn(home, key), at)
    assert not result(home, run).exists()
    assert begun_by(lambda: learn(home, key)) == list(range(at, 3))
    assert (result(home, run).read_bytes(), held(home, key)) == undisturbed


@pytest.mark.parametrize("run", ["moe_adapters", "finetune_single", "finetune", "joint"])
def test_a_kill_after_the_last_task_trains_nothing_again(home: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"{run}--I--s0"
    learn(home, key)
    undisturbed = result(home, run).read_bytes(), held(home, key)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "result", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn(home, key)
    assert begun_by(lambda: learn(home, key)) == []
    assert (result(home, run).read_bytes(), held(home, key)) == undisturbed


OTHERS: dict[str, dict[str, Any]] = {
    "steps": {"changes": {"train.steps": 5}},
    "crop": {"changes": {"train.crop": 0.8}},
    "selector": {"changes": {"selector.code": 5}},
    "rate": {"changes": {"methods.moe_adapters": small_study.MOE | {"lr": 0.002}}},
    "fewer pictures": {"set": {"shots": 3}},
    "steps of the run": {"set": {"steps": 5}},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_progress_with_other_numbers_is_not_used(home: Path, changes: dict[str, Any]) -> None:
    interrupt(lambda: learn(home))
    assert begun_by(lambda: learn(home, made=study(**changes))) == [0, 1, 2]


@pytest.mark.parametrize(("module", "begun"), [("study/train", [0, 1, 2]), ("methods/finetune", [1, 2])])
def test_progress_of_other_code_is_used_only_where_it_does_not_matter(
    home: Path, module: str, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_digests, "of_method", small_study.code_of_method.__wrapped__)
    interrupt(lambda: learn(home))
    code, digest = (ROOT / "lib" / f"{module}.py").read_text(), Digests.of_source
    monkeypatch.setattr(Digests, "of_source", lambda *given: "other" if given[1] == code else digest(*given))
    assert begun_by(lambda: learn(home)) == begun


def test_a_run_with_fewer_pictures_and_other_steps_learns_just_that(home: Path) -> None:
    few = study(set={"shots": 2, "steps": 11})
    curriculum = small_study.open_at(home, few).curriculum("moe_adapters", "I", 0)
    assert [len(lesson.task.train) for lesson in curriculum.lessons] == [6] * 3
    assert [len(lesson.task.test) for lesson in curriculum.lessons] == [12] * 3
    assert (curriculum.train.steps, curriculum.train.batch) == (11, few.train.batch)
    assert [len(losses) for losses in learn(home, made=few)["losses"]] == [2] * 3  # every tenth of eleven


def together(first: Pictures, second: Pictures) -> Pictures:
    """Two tasks' pictures of three classes each as six classes."""
    return Pictures(torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels + 3]))


def test_a_run_with_tasks_cut_in_two_learns_their_parts_in_order(home: Path) -> None:
    splits = [together(*(getattr(small_study.task(number), split) for number in (0, 1))) for split in tasks.SPLITS]
    wide = Task("wide", list("abcdef"), ["{}"], splits[0], splits[1])
    opened = small_study.open_at(home, study(changes={"tasks.orders": {"I": ["wide"]}}, set={"cut": 2, "shots": 5}))
    tasks.save(wide, opened.task_file("wide"))
    frozen.save(frozen.compute(small_study.backbone(), wide, "clip"), opened.feature_file("wide"))
    lessons = opened.curriculum("moe_adapters", "I", 3).lessons
    assert [(lesson.number, lesson.seed) for lesson in lessons] == [(0, [3, 0]), (1, [3, 1])]
    assert [lesson.task.classes for lesson in lessons] == [["a", "b", "c"], ["d", "e", "f"]]
    assert [lesson.task.train.labels.bincount().tolist() for lesson in lessons] == [[5, 5, 5]] * 2
    content = opened.learn(KEY)
    assert (content["tasks"], content["classes"]) == (["wide.1", "wide.2"], [3, 3])


def test_joint_learns_everything_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stop_at(monkeypatch, 9)
    content = learn(home, "joint--I--s0", study("joint", {"train.steps": 10}))
    assert begun == [0]
    assert [len(losses) for losses in content["losses"]] == [3, 0, 0]  # thirty steps, then none
    rows = content["accuracy"]["sample"]
    assert rows[0] == rows[1] == rows[2]
    assert content["forgetting"] == {"sample": 0.0}


def test_same_seed_same_bytes_and_another_seed_others(home: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        learn(home, f"moe_adapters--I--s{seed}")
        made.append((result(home, seed=seed).read_bytes(), held(home, f"moe_adapters--I--s{seed}")[1]))
    assert made[0] == made[1]
    assert made[0][1] != made[2][1]
    assert json.loads(made[0][0])["losses"] != json.loads(made[2][0])["losses"]


def finished(home: Path) -> int:
    """How many tasks the newest whole checkpoint has learned."""
    found = [int(path.name) + 1 for path in home.glob(f"data/tiny/scratch/{KEY}/*/*") if path.name.isdigit()]
    return max(found, default=0)


def test_kills_change_no_byte_and_lose_no_task(tmp_path: Path) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for home in (calm, wild):
        small_study.prepare(home)
    whole, changes = killed_run.learn_until(calm)
    assert whole
    tasks = 0
    for change in (1, changes // 3, changes // 3, changes // 5):  # in the first task, and in later ones
        assert not killed_run.learn_until(wild, change)[0]
        assert tasks <= finished(wild), "a finished task was lost"
        tasks = finished(wild)
    assert tasks
    assert killed_run.learn_until(wild)[0]
    assert f"task {tasks}/3 was finished before" in (wild / "said").read_text()
    assert (result(wild).read_bytes(), held(wild)) == (result(calm).read_bytes(), held(calm))


# --- results by hand

ROWS = [
    Row({"sample": [90.0, 40.0], "oracle": [92.0, 40.0]}, {"sample": [[3, 1], [0, 4]]}),
    Row({"sample": [70.0, 80.0], "oracle": [91.0, 85.0]}, {"sample": [[3, 1, 0], [0, 4, 0]]}),
]


def by_hand(run: str = "moe_adapters+no_freeze", seed: int = 0) -> dict[str, Any]:
    about = About("tiny", run, "I", seed, "ab", {}, ["red", "green"], ROWS, [[2.0], [1.0]])
    size = {"trainable_parameters": 5, "stored_bytes": 20}
    return stage.result(about, [3, 4], size, {"experts": {}}, None, [1, 2])


def test_a_result_by_hand() -> None:
    made = by_hand()
    assert (made["method"], made["variant"], made["classes"]) == ("moe_adapters", "no_freeze", [3, 4])
    assert made["accuracy"]["sample"] == [[90.0, 40.0], [70.0, 80.0]]
    assert made["transfer"] == {"sample": 40.0, "oracle": 40.0}
    assert made["average"] == {"sample": 70.0, "oracle": 77.0}
    assert made["last"] == {"sample": 75.0, "oracle": 88.0}
    assert made["forgetting"] == {"sample": 20.0, "oracle": 1.0}
    assert made["routed"] == {"sample": [[[3, 1], [0, 4]], [[3, 1, 0], [0, 4, 0]]]}
    assert (made["trainable_parameters"], made["losses"], made["experts"]) == (5, [[2.0], [1.0]], {})


def test_a_long_sequence_is_tested_after_some_tasks_only(home: Path) -> None:
    dense = learn(home)
    sparse = learn(home, made=study(changes={"tasks.tested_after": [1]}))
    assert sparse["tested_after"] == [1, 3]
    assert "tested_after" not in dense
    for decision, rows in sparse["accuracy"].items():
        assert rows == [dense["accuracy"][decision][0], dense["accuracy"][decision][2]]
    assert sparse["last"] == dense["last"]
    assert [len(losses) for losses in sparse["losses"]] == [len(losses) for losses in dense["losses"]]

"""The plan: a stage for each run, order and seed, and the committed files in step."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lib.study import params, plan, studies
from lib.study.params import Run
from lib.study.plan import Item
from tests.support import small_study

EVERY = Run([0, 1], {}, ["I", "II"], story=True, by_task=True)


def small(**runs: Run) -> params.Study:
    study = small_study.study({"tasks.orders": {"I": ["red", "green", "blue"], "II": ["blue", "red", "green"]}})
    study.runs.clear()
    study.runs.update(runs)
    return study


def test_a_whole_run_is_one_stage() -> None:
    found = plan.items(small(finetune=Run([3], {}, ["I", "II"])))
    assert list(found) == ["finetune--I--s3", "finetune--II--s3"]
    assert found["finetune--I--s3"] == Item(
        run="finetune",
        method="finetune",
        order="I",
        seed=3,
        tasks=3,
        every_task=False,
        checkpoint="data/tiny/runs/finetune--I--s3",
        result="reports/results/tiny/finetune--I--s3.json",
    )


def test_an_order_may_be_learned_by_some_of_the_seeds_alone() -> None:
    study = small(finetune=Run([3, 5, 4], {}, {"II": 1, "I": 3}), adapter=Run([0, 1], {}, ["I", "II"]))
    assert plan.seeds_of(study, "finetune") == {"II": [3], "I": [3, 5, 4]}
    assert plan.seeds_of(study, "adapter") == {"I": [0, 1], "II": [0, 1]}
    assert plan.seeds_of(small(finetune=Run([3], {})), "finetune") == {"I": [3]}  # the first, if it names none
    assert list(plan.items(study))[:4] == [f"finetune--{which}" for which in ("II--s3", "I--s3", "I--s5", "I--s4")]


def test_a_task_that_is_cut_counts_as_its_parts() -> None:
    study = small(moe_adapters=Run([0], {"cut": 2}, story=True, by_task=True), finetune=Run([0], {"cut": 2}))
    names = ["red.1", "red.2", "green.1", "green.2", "blue.1", "blue.2"]
    assert plan.tasks_of(study, "moe_adapters", "I") == names
    assert [item.tasks for item in plan.items(study).values()] == [6, 6]
    assert plan.tasks_of(small(finetune=Run([0], {})), "finetune", "II") == ["blue", "red", "green"]


def test_the_first_seed_of_a_run_by_task_leaves_a_checkpoint_of_every_task() -> None:
    found = plan.items(small(moe_adapters=EVERY, finetune=Run([0], {})))
    home = "data/tiny/runs/moe_adapters--I--s0"
    assert found["moe_adapters--I--s0"].moments == [f"{home}/0", f"{home}/1", home]
    assert [key for key, item in found.items() if item.every_task] == ["moe_adapters--I--s0", "moe_adapters--II--s0"]
    assert found["finetune--I--s0"].moments == ["data/tiny/runs/finetune--I--s0"]


@pytest.mark.usefixtures("own_pictures")
def test_no_two_stages_write_to_the_same_place() -> None:
    for name in studies.names():
        found = plan.items(params.load(studies.file_of(name))).values()
        outputs = [path for item in found for path in (item.checkpoint, item.result)]
        assert len(outputs) == len(set(outputs))


def test_the_main_story_is_the_first_seed_in_the_first_order_of_the_runs_that_belong_to_it() -> None:
    story = Run([7, 8], {}, ["II", "I"], story=True)
    study = small(finetune=story, joint=Run([0], {}), moe_adapters=EVERY, adapter=replace(story, orders=["II"]))
    assert plan.main_story(study) == ["finetune--I--s7", "moe_adapters--I--s0"]


def test_the_committed_plan_is_in_step_and_names_what_dvc_unfolds() -> None:
    ((path, text),) = plan.files("mini").items()
    assert path.read_text() == text, "run `python -m lib.study.plan`"
    variables = yaml.safe_load(text)
    assert (variables["root"], variables["file"], variables["pages"]) == (".", "params.yaml", "reports")
    assert list(variables["learn"]) == list(plan.items(params.load()))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the default study and one that extends it."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small_study.RAW | {"study": "mini"}))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "studies" / "few.yaml").write_text("extends: mini\ntrain: {steps: 3, warmup: 1}\n")
    return tmp_path


def test_another_study_gets_a_folder_when_it_is_wanted(project: Path) -> None:
    assert plan.write(root=project) == ["plan.yaml"]
    wanted = ["studies/few/params.yaml", "studies/few/plan.yaml", "studies/few/dvc.yaml"]
    assert plan.write("few", root=project) == wanted
    variables = yaml.safe_load((project / "studies/few/plan.yaml").read_text())
    assert (variables["root"], variables["pages"]) == ("../..", "reports/few")
    assert params.load(project / "studies/few/params.yaml") == params.load(project / "studies/few.yaml")
    assert "stages: {}" in (project / "studies/few/dvc.yaml").read_text()


def test_a_folder_study_without_orders_gets_one_of_all_its_folders(project: Path) -> None:
    (project / "studies/own.yaml").write_text("extends: mini\nwithout: [tasks.orders]\ntasks: {orders: {}}\n")
    for task in ("shoes", "hats", ".git"):
        (project / "pictures" / task).mkdir(parents=True)
    plan.write("own", root=project)
    held = yaml.safe_load((project / "studies/own/params.yaml").read_text())  # where DVC watches the order
    assert held["tasks"]["orders"] == {"I": ["hats", "shoes"]}


def test_a_folder_that_is_there_is_kept_in_step(project: Path) -> None:
    plan.write("few", root=project)
    (project / "studies/few/plan.yaml").write_text("stale")
    assert plan.write(root=project) == ["studies/few/plan.yaml"]


def test_a_study_that_nobody_asked_for_may_be_broken(project: Path) -> None:
    plan.write("few", root=project)
    (project / "studies/few.yaml").write_text("extends: nowhere\n")
    assert plan.write(root=project) == []
    with pytest.raises(params.ParamsError, match="nowhere"):
        plan.write("few", root=project)


def test_stages_depend_on_the_pictures_of_a_folder_study() -> None:
    folder, mini = small(), params.load()
    assert folder.tasks.source == "folder"
    for study, pictures in ((folder, folder.tasks.root), (mini, "data/mini/data.json")):
        assert plan._variables(study)["pictures"] == pictures

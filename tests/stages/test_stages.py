"""The stages: each depends on what it runs, passes and tracks only what exists; notebooks are committed clean."""

import json
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from lib.study import code_digests as sources
from lib.study import params, plan, studies
from lib.study.studies import NOTEBOOKS, ROOT
from tools.stages.engine import StudyEngine, parameters_of

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHARED = yaml.safe_load((ROOT / "studies" / "dvc.yaml").read_text())["stages"]
NOTEBOOK_FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def stages() -> dict[str, dict]:
    return {name: stage.get("do", stage) for name, stage in (STAGES | SHARED).items()}


def notebook_of(stage: dict) -> Path | None:
    found = re.search(r"notebooks/(\w+)\.ipynb", stage["cmd"])
    return NOTEBOOKS / f"{found[1]}.ipynb" if found else None


BY_NOTEBOOK = {name: (stage, run) for name, stage in stages().items() if (run := notebook_of(stage))}


digests = cache(sources.files)


def source(notebook: Path) -> str:
    return "\n".join(sources.cells(notebook))


def filled(text: str, item: plan.Item) -> str:
    """A line of dvc.yaml with an item of the plan in its places."""
    return re.sub(r"\$\{item\.(\w+)\}", lambda found: str(getattr(item, found[1])), text)


def test_every_notebook_is_run_by_one_stage() -> None:
    assert sorted(notebook for _, notebook in BY_NOTEBOOK.values()) == NOTEBOOK_FILES


@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_a_stage_depends_on_the_code_of_its_notebook_and_of_no_other(name: str) -> None:
    stage, notebook = BY_NOTEBOOK[name]
    method = "--${item.method}" if notebook.stem == sources.LEARN else ""
    code = [dep for dep in stage["deps"] if dep.startswith("data/code")]
    assert code == [f"data/code/{notebook.stem}{method}.json"]
    assert not [dep for dep in stage["deps"] if dep.endswith((".py", ".ipynb"))]  # digests stand for them


@pytest.mark.usefixtures("own_pictures")
def test_the_code_that_stages_depend_on_is_digested() -> None:
    made = {f"data/code/{name}" for name in digests()}
    asked = {dep for stage in stages().values() for dep in stage["deps"] if dep.startswith("data/code/")}
    for name in studies.names():
        study = params.load(studies.file_of(name))
        wanted = {filled(dep, item) for dep in asked for item in plan.items(study).values()}
        assert wanted <= made
    assert SHARED["code"]["cmd"] == "python -m lib.study.code_digests"
    assert {"lib", "notebooks", "tools"} <= set(SHARED["code"]["deps"])


@pytest.mark.parametrize("name", BY_NOTEBOOK)
def test_a_stage_passes_only_parameters_that_its_notebook_has(name: str) -> None:
    stage, notebook = BY_NOTEBOOK[name]
    assert set(re.findall(r"-p (\w+) ", stage["cmd"])) <= set(parameters_of(nbformat.read(notebook, as_version=4)))


def test_a_notebooks_stage_is_papermill_with_the_projects_engine() -> None:
    for name, (stage, notebook) in BY_NOTEBOOK.items():
        assert stage["cmd"].startswith(f"papermill notebooks/{notebook.name} reports/notebooks/"), name
        assert "--engine study " in stage["cmd"]
    (engine,) = entry_points(group="papermill.engine", name="study")
    assert engine.load() is StudyEngine


def test_nothing_that_learns_depends_on_the_bytes_of_features() -> None:
    for name, stage in stages().items():
        assert not [dep for dep in stage["deps"] if dep.endswith("/features")], name
    assert "data/${study}/features/manifest.json" in stages()["learn"]["deps"]


def tracked(stage: dict) -> list[str]:
    """The numbers that a stage watches, as paths into the params file."""
    return [key for each in stage.get("params", []) for keys in each.values() for key in keys]


def has(raw: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(raw, dict) or key not in raw:
            return False
        raw = raw[key]
    return True


@pytest.mark.usefixtures("own_pictures")
@pytest.mark.parametrize("study", studies.names())
def test_every_number_that_a_stage_watches_is_in_the_params(study: str) -> None:
    raw = params.with_orders(studies.read(studies.file_of(study)), study)
    plain = {name: stage for name, stage in STAGES.items() if "foreach" not in stage}
    wanted = {(name, key) for name, stage in plain.items() for key in tracked(stage)}
    for key, item in plan.items(params.load(studies.file_of(study))).items():
        wanted |= {(key, filled(path, item)) for path in tracked(STAGES["learn"]["do"])}
    assert not [(name, path) for name, path in wanted if not has(raw, path)]


def test_a_learning_stage_watches_its_own_methods_and_runs_numbers() -> None:
    watched = tracked(STAGES["learn"]["do"])
    assert {"methods.${item.method}", "runs.${item.run}.set", "tasks.orders.${item.order}"} <= set(watched)
    assert {"backbone", "compute", "selector", "train"} <= set(watched)
    assert not {"methods", "runs", "tasks", "tasks.orders"} & set(watched)  # those of others change nothing here


def test_every_dep_exists_or_is_made() -> None:
    made = {str(next(iter(o)) if isinstance(o, dict) else o) for s in stages().values() for o in s["outs"]}
    for name, stage in stages().items():
        for dep in stage["deps"]:
            inside = any(dep.startswith(f"{out}/") for out in made)
            assert "${" in dep or dep in made or inside or (ROOT / dep).exists(), f"{name}: {dep}"


@pytest.mark.parametrize("notebook", NOTEBOOK_FILES, ids=lambda p: p.stem)
def test_notebooks_are_committed_without_outputs_and_say_where_they_come_from(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert not any(c["outputs"] or c["execution_count"] for c in code)
    assert cells[0]["cell_type"] == "markdown"
    assert "provenance(" in source(notebook)
    assert "assert" in "".join(code[-1]["source"]), "the last cell asserts what the notebook has made"
    assert max(len(c["source"]) for c in code) <= 30


def test_default_parameters_of_the_engine_name_an_item_of_the_plan() -> None:
    default = re.search(r'item: str = "([^"]+)"', source(NOTEBOOKS / "05_learn.ipynb"))
    assert default is not None
    assert default[1] in plan.items(params.load())

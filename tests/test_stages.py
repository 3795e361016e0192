"""The stages: every module that a stage's notebook reaches is a dep of the stage, every name it passes exists."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from lib import plan
from lib.notebooks import parameters_of
from lib.params import load
from lib.paths import NOTEBOOKS, ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHARED = yaml.safe_load((ROOT / "notebooks" / "dvc.yaml").read_text())["stages"]
# what makes a stage's inputs, where these are deps themselves
THROUGH = {"data/${study}/tasks": {"drawing", "mini", "symbols"}}
# these show, read or write; they cannot change a number, so they make nothing stale
SILENT = {"figures", "notebooks", "params", "paths", "plan", "progress", "report", "results"}


def imported(source: str) -> set[str]:
    """Names of the modules of lib that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "lib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            found.add((node.module or "").split(".")[1])
    return found


def reached(modules: set[str]) -> set[str]:
    """The modules that can change a number, and all that they import in turn; a package counts as one."""
    known = set(SILENT)
    while modules - known:
        name = (modules - known).pop()
        known.add(name)
        file = ROOT / "lib" / f"{name}.py"
        sources = [file] if file.exists() else sorted((ROOT / "lib" / name).glob("*.py"))
        for source in sources:
            modules = modules | imported(source.read_text())
    return known - SILENT


def notebook_of(stage: dict) -> Path | None:
    found = re.search(r"notebooks/(\w+)\.ipynb", stage["cmd"])
    return NOTEBOOKS / f"{found[1]}.ipynb" if found else None


def stages() -> dict[str, dict]:
    return {name: stage.get("do", stage) for name, stage in (STAGES | SHARED).items()}


def source(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


@pytest.mark.parametrize("name", [n for n, s in stages().items() if notebook_of(s)])
def test_a_stage_depends_on_every_module_it_reaches(name: str) -> None:
    stage = stages()[name]
    notebook = notebook_of(stage)
    assert notebook is not None
    deps = {Path(d).stem for d in stage["deps"] if d.startswith("lib/")}
    through = [made for dep, made in THROUGH.items() if dep in stage["deps"]]
    needed = reached(imported(source(notebook))).difference(*through)
    assert needed <= deps, f"{name} does not list lib/{{{', '.join(sorted(needed - deps))}}}.py"
    assert f"data/code/{notebook.name}" in stage["deps"]


@pytest.mark.parametrize("name", [n for n, s in stages().items() if notebook_of(s)])
def test_a_stage_passes_only_parameters_that_its_notebook_has(name: str) -> None:
    stage = stages()[name]
    notebook = notebook_of(stage)
    assert notebook is not None
    assert set(re.findall(r"-p (\w+) ", stage["cmd"])) <= set(parameters_of(notebook))


def test_the_backbone_stands_on_modules_of_its_own() -> None:
    ours = {d for d in SHARED["pretrain"]["deps"] if d.startswith("lib/")}
    others = {d for s in STAGES.values() for d in s.get("do", s)["deps"] if d.startswith("lib/")}
    assert ours & others <= {"lib/drawing.py", "lib/symbols.py", "lib/tiny_clip.py"}


def test_the_copied_notebooks_are_all_notebooks() -> None:
    names = {p.name for p in NOTEBOOKS.glob("*.ipynb")}
    assert {Path(d).name for d in SHARED["code"]["deps"] if d.endswith(".ipynb")} == names
    assert {Path(next(iter(o))).name for o in SHARED["code"]["outs"]} == names


def test_every_dep_exists_or_is_made() -> None:
    made = {str(next(iter(o)) if isinstance(o, dict) else o) for s in stages().values() for o in s["outs"]}
    for name, stage in stages().items():
        for dep in stage["deps"]:
            assert "${" in dep or dep in made or (ROOT / dep).exists(), f"{name}: {dep}"


def test_plans_are_in_step_with_the_params() -> None:
    assert plan.out_of_step() == {}


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
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
    assert default[1] in plan.items(load())

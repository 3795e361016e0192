"""Digests of what stages run: prose changes none, code does, and nobody else's."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from lib import sources
from lib.paths import NOTEBOOKS, ROOT

CODE = '''
"""A module."""
import math

LIMIT = 3  # of everything

def area(radius: float = 1.0) -> float:
    """Of a circle."""
    # by hand
    return math.pi * radius**2

class Round:
    """A shape."""

    size = "large"

    def roll(self) -> None:
        """Away."""
        print("rolling")
'''
PROSE = [
    ("A module.", "Another text.\n\nWith a second paragraph."),
    ('"""A module."""\n', ""),
    ('    """Of a circle."""\n', ""),
    ('"""Of a circle."""', "'of an ellipse'"),
    ("A shape.", "None."),
    ("Away.", "Far away."),
    ("# by hand", "# as Archimedes did"),
    ("  # of everything", ""),
    ("math.pi * radius**2", "(\n        math.pi\n        * radius ** 2\n    )"),
    ('"large"', "'large'"),
    ("\n\nclass", "\n\n\n\nclass"),
]
MEANING = [
    ("LIMIT = 3", "LIMIT = 4"),
    ("radius**2", "radius**3"),
    ("radius: float = 1.0", "radius: float = 2.0"),
    ('"large"', '"small"'),
    ('"rolling"', '"Rolling"'),
    ("import math", "import cmath as math"),
    ("    return math", "    radius += 1\n    return math"),
    ("class Round:", "class Round(dict):"),
]
# loads what the learning notebook imports, once for each method, and prints the modules of lib that this brings
LOADS = """
import ast, json, sys, types
from lib import sources
from lib.paths import NOTEBOOKS
code = ast.parse("\\n".join(sources.cells(NOTEBOOKS / f"{sources.LEARN}.ipynb")))
lines = [line for line in code.body if isinstance(line, ast.Import | ast.ImportFrom)]
loaded = {}
for name in sources.METHODS:
    for module in [m for m in sys.modules if m.partition(".")[0] == "lib"]:
        del sys.modules[module]
    for module in sources.SHOWN[sources.LEARN]:
        sys.modules[module] = types.ModuleType(module)  # what it brings is shown as well
    exec(compile(ast.Module(lines, []), "05_learn", "exec"), {})
    sys.modules["lib.learn"].method_class(name)
    loaded[name] = [m for m in sys.modules if m.partition(".")[0] == "lib"]
print(json.dumps(loaded))
"""
Files = dict[str, dict]
digest, imported = cache(sources.digest), cache(sources.imported)  # of the same text always the same


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of lib and of the notebooks that a test may change."""
    for folder in ("lib", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(sources, "digest", digest)
    monkeypatch.setattr(sources, "imported", imported)
    return tmp_path


def changed(before: Files, after: Files) -> set[str]:
    """Names of the files that are not what they were; what is new or gone counts."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) >= 1, f"{file.name} has no {old!r}"
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("old", "new"), PROSE)
def test_comments_docstrings_and_layout_change_no_digest(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert sources.digest(CODE.replace(old, new)) == sources.digest(CODE)


@pytest.mark.parametrize(("old", "new"), MEANING)
def test_code_changes_the_digest(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert sources.digest(CODE.replace(old, new)) != sources.digest(CODE)


def test_imports_are_found_at_any_depth_and_only_those_of_lib() -> None:
    code = """
import lib.clip, lib.moe as m
from lib import tasks
from lib.features import Features, load
from library import lib
if False:
    from lib.methods.base import Method
def late():
    import numpy
    from lib import (reference, paths)
    return "from lib import world"
"""
    modules = {"clip", "moe", "tasks", "features", "methods.base", "reference", "paths"}
    assert sources.imported(code) == {"lib", *(f"lib.{name}" for name in modules)}


def test_what_the_lists_name_exists_and_what_is_silent_reaches_nothing_that_counts() -> None:
    shown = set().union(*sources.SHOWN.values())
    for name in sources.SILENT | sources.PICTURES | shown:
        assert sources._file(name) is not None, name
    assert {sources.LEARN, *sources.PAINTERS, *sources.SHOWN} <= {p.stem for p in NOTEBOOKS.glob("*.ipynb")}
    for name in sources.SILENT - {
        "lib.methods"
    }:  # which names a type, and loads the rest when it is asked for
        file = sources._file(name)
        assert file is not None
        assert sources.imported(file.read_text()) <= sources.SILENT, name


def test_the_files_of_learning_have_all_that_importing_loads() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    besides = sources.SILENT | sources.PICTURES | sources.SHOWN[sources.LEARN]
    found = sources.files()
    for name, modules in json.loads(done.stdout).items():
        own = f"lib.methods.{sources.METHODS[name].partition('.')[0]}"
        assert {own, "lib.learn", "lib.train", "lib.evaluate", "lib.clip"} <= set(modules)
        assert set(modules) - besides <= set(found[f"{sources.LEARN}--{name}.json"]["modules"]), name
        assert set(modules) - besides <= set(sources.of_method(name)), name  # by which progress is taken up


def test_who_reaches_what() -> None:
    found = {name.removesuffix(".json"): set(content["modules"]) for name, content in sources.files().items()}
    for modules in found.values():
        assert not modules & sources.SILENT
    assert {name for name, modules in found.items() if modules & sources.PICTURES} == {
        *sources.PAINTERS,
        "data",
    }
    assert [name for name, modules in found.items() if "lib.photographs" in modules] == ["01_tasks"]
    learning = {name: modules for name, modules in found.items() if name.startswith(f"{sources.LEARN}--")}
    assert len(learning) == len(sources.METHODS)
    assert not any("lib.figures" in modules for modules in [*learning.values(), found["02_pretrain"]])
    mixtures = {name for name, modules in learning.items() if "lib.moe" in modules}
    assert {"05_learn--adapter", "05_learn--moe_adapters"} <= mixtures
    assert not mixtures & {
        f"05_learn--{name}" for name in ("zero_shot", "joint", "finetune", "finetune_single")
    }


def test_a_new_method_changes_no_other_methods_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sources.files()
    (home / "lib" / "trick.py").write_text("FACTOR = 2\n")
    (home / "lib" / "methods" / "mine.py").write_text(
        "from lib.trick import FACTOR\n\n\nclass Mine:\n    pass\n"
    )
    monkeypatch.setitem(sources.METHODS, "mine", "mine.Mine")
    replaced(home / "lib" / "methods" / "names.py", "METHODS = {", 'METHODS = {\n    "mine": "mine.Mine",')
    after = sources.files()
    assert changed(before, after) == {"05_learn--mine.json", "09_cost.json"}  # the costs are every method's
    assert {"lib.trick", "lib.methods.mine", "lib.learn"} <= set(after["05_learn--mine.json"]["modules"])
    (home / "lib" / "trick.py").write_text("FACTOR = 3\n")
    assert changed(after, sources.files()) == {"05_learn--mine.json", "09_cost.json"}


def test_a_change_reaches_those_who_run_it_and_nobody_else(home: Path) -> None:
    before = sources.files()
    replaced(home / "lib" / "adapter.py", "scale: float = 0.1", "scale: float = 0.2")
    users = changed(before, sources.files())
    assert users == {name for name, content in before.items() if "lib.adapter" in content["modules"]}
    assert {"05_learn--adapter.json", "05_learn--moe_adapters.json", "00_start_here.json"} <= users
    assert not users & {"05_learn--finetune.json", "03_zero_shot.json", "02_pretrain.json", "01_tasks.json"}
    replaced(home / "lib" / "adapter.py", "scale: float = 0.2", "scale: float = 0.1")
    replaced(
        home / "lib" / "adapter.py",
        "        self.scale = scale\n",
        "        self.scale = scale  # as released\n",
    )
    replaced(home / "lib" / "params.py", '"shots": 0', '"shots": 1')  # tracked value by value instead
    assert sources.files() == before


def test_prose_outputs_and_tags_of_a_notebook_change_nothing_and_its_code_does(home: Path) -> None:
    file = home / "notebooks" / "03_zero_shot.ipynb"
    before, notebook = sources.of_notebook(file), json.loads(file.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = ["Other words.\n", "And more of them."]
        else:
            cell |= {
                "execution_count": 7,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}],
            }
            cell["metadata"]["collapsed"] = True
            cell["source"] = "# a comment\n" + "".join(cell["source"])  # one string instead of lines
    empty = {"cell_type": "code", "source": [], "metadata": {}, "outputs": [], "execution_count": None}
    file.write_text(json.dumps(notebook | {"cells": [*notebook["cells"], empty], "metadata": {"by": "me"}}))
    assert sources.of_notebook(file) == before
    notebook["cells"].append(empty | {"source": ["print(1)"]})
    file.write_text(json.dumps(notebook))
    after = sources.of_notebook(file)
    assert after["cells"] != before["cells"]
    assert after["modules"] == before["modules"]


def test_the_learning_notebook_is_in_every_methods_file(home: Path) -> None:
    before = sources.files()
    replaced(
        home / "notebooks" / "05_learn.ipynb", "learn.learn(study, item)", "learn.learn(study, item.strip())"
    )
    assert changed(before, sources.files()) == {f"05_learn--{name}.json" for name in sources.METHODS}


def test_files_are_written_and_those_of_what_is_gone_removed(home: Path) -> None:
    folder = home / "data" / "code"
    folder.mkdir(parents=True)
    (folder / "05_learn--gone.json").write_text("{}")
    (folder / "03_zero_shot.json").write_text("old")
    sources.write(folder)
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: json.loads(text) for name, text in held.items()} == sources.files()
    assert "05_learn--gone.json" not in held
    assert "05_learn.json" not in held  # only with a method
    sources.write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held

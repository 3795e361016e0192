"""Digests of what stages run: prose changes none, code does, and nobody else's."""

import json
import shutil
from pathlib import Path

import pytest

from lib.data import folders
from lib.study import code_digests
from lib.study.studies import NOTEBOOKS, ROOT

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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's code that a test may change."""
    for folder in ("lib", "tools", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.setattr(code_digests, "ROOT", tmp_path)
    monkeypatch.setattr(code_digests, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The names whose digests differ, and those that only one of the two has."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} has no {old!r}"
    file.write_text(text.replace(old, new))


def digest(source: str) -> str:
    return code_digests.Digests(set()).of_source(source)


@pytest.mark.parametrize(("old", "new"), PROSE)
def test_comments_docstrings_and_layout_change_no_digest(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert digest(CODE.replace(old, new)) == digest(CODE)


@pytest.mark.parametrize(("old", "new"), MEANING)
def test_code_changes_the_digest(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert digest(CODE.replace(old, new)) != digest(CODE)


def test_an_import_stands_for_the_code_that_it_brings(home: Path) -> None:
    (home / "lib" / "one.py").write_text("A = 1\n")
    (home / "lib" / "same.py").write_text("# another comment\nA = 1\n")
    (home / "lib" / "other.py").write_text("A = 2\n")
    for form in (
        "from lib.{} import A",
        "def late():\n    from lib.{} import A",
        "import lib.{} as m",
        "from lib import {} as m",
    ):
        assert digest(form.format("one")) == digest(form.format("same")) != digest(form.format("other")), form


def test_moving_a_module_changes_no_digest(home: Path) -> None:
    before = code_digests.files()
    shutil.move(home / "lib" / "moe" / "router.py", home / "lib" / "clip" / "gate.py")
    for file in [*home.rglob("*.py"), *home.rglob("*.ipynb")]:
        file.write_text(file.read_text().replace("lib.moe.router", "lib.clip.gate"))
    assert code_digests.files() == before


def test_modules_that_import_each_other_are_refused(home: Path) -> None:
    (home / "lib" / "one.py").write_text("from lib import other\n")
    (home / "lib" / "other.py").write_text("from lib import one\n")
    with pytest.raises(ValueError, match=r"circle: lib\.one -> lib\.other -> lib\.one"):
        digest("from lib import one")


def test_every_listed_module_and_notebook_exists() -> None:
    shown = set().union(*code_digests.SHOWN.values())
    for name in code_digests.SILENT | code_digests.PICTURES | shown | set(code_digests.TOOLS.values()):
        assert code_digests.module_file(name) is not None, name
    notebooks = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert set(folders.SOURCES.values()) == code_digests.SOURCES
    assert {code_digests.LEARN, *code_digests.LEARNERS, *code_digests.PAINTERS, *code_digests.SHOWN} <= notebooks


def test_a_change_makes_those_stale_that_run_it_and_no_others(home: Path) -> None:
    before = code_digests.files()
    replaced(home / "lib" / "moe" / "experts.py", "scale: float = 0.1", "scale: float = 0.2")
    users = changed(before, code_digests.files())
    assert {"05_learn--adapter.json", "05_learn--moe_adapters.json", "00_start_here.json"} <= users
    assert not users & {"05_learn--finetune.json", "03_zero_shot.json", "02_pretrain.json", "01_tasks.json"}
    replaced(home / "lib" / "moe" / "experts.py", "scale: float = 0.2", "scale: float = 0.1")
    assert code_digests.files() == before


def test_pictures_make_only_the_painters_stale(home: Path) -> None:
    before = code_digests.files()
    replaced(home / "tools" / "miniworld" / "drawing.py", "SIZE = ", "SIZE = 1 + ")
    assert changed(before, code_digests.files()) == {f"{name}.json" for name in code_digests.PAINTERS}


def test_a_new_method_makes_no_other_method_stale(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digests.files()
    (home / "lib" / "trick.py").write_text("FACTOR = 2\n")
    (home / "lib" / "methods" / "mine.py").write_text("from lib.trick import FACTOR\n\n\nclass Mine:\n    pass\n")
    monkeypatch.setitem(code_digests.METHODS, "mine", "mine.Mine")
    after = code_digests.files()
    assert changed(before, after) == {"05_learn--mine.json"}
    (home / "lib" / "trick.py").write_text("FACTOR = 3\n")
    assert changed(after, code_digests.files()) == {"05_learn--mine.json"}


def test_prose_outputs_and_tags_of_a_notebook_change_nothing_and_its_code_does(home: Path) -> None:
    file = home / "notebooks" / "03_zero_shot.ipynb"
    before, notebook = code_digests.of_notebook(file), json.loads(file.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = ["Other words.\n", "And more of them."]
        else:
            cell |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]}
            cell["metadata"]["collapsed"] = True
            cell["source"] = "# a comment\n" + "".join(cell["source"])  # one string instead of lines
    empty = {"cell_type": "code", "source": [], "metadata": {}, "outputs": [], "execution_count": None}
    file.write_text(json.dumps(notebook | {"cells": [*notebook["cells"], empty], "metadata": {"by": "me"}}))
    assert code_digests.of_notebook(file) == before
    notebook["cells"].append(empty | {"source": ["print(1)"]})
    file.write_text(json.dumps(notebook))
    assert code_digests.of_notebook(file) != before


def test_files_are_written_and_those_of_what_is_gone_removed(home: Path) -> None:
    folder = home / "data" / "code"
    folder.mkdir(parents=True)
    (folder / "05_learn--gone.json").write_text("{}")
    (folder / "03_zero_shot.json").write_text("old")
    code_digests.write(folder)
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: json.loads(text)["code"] for name, text in held.items()} == code_digests.files()
    assert "05_learn--gone.json" not in held
    assert "05_learn.json" not in held  # only with a method
    code_digests.write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held

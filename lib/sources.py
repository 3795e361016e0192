"""What a stage runs: the code of its notebook and of every module that it reaches, as digests that prose cannot change.

`python -m lib.sources` writes data/code/<notebook>.json, for the learning notebook one file for each method, and one
for a stage without notebook. The stages depend on these files: a comment, a docstring, a paragraph or an output makes
nothing stale, a forgotten dependency cannot happen, and a new method leaves all others as they are.
"""

import ast
import hashlib
import json
from pathlib import Path

from lib.methods.names import METHODS
from lib.paths import DATA, NOTEBOOKS, ROOT

LEARN, COST = "05_learn", "09_cost"  # what they run depends on the methods as well
# These find, check, name or tell; they cannot change a number. Params are tracked value by value.
SILENT = {
    f"lib{name}"
    for name in (
        "",
        ".disk",
        ".methods",
        ".methods.names",
        ".params",
        ".paths",
        ".plan",
        ".progress",
        ".provenance",
        ".sources",
        ".strict",
    )
}
# These draw the pictures, which reach all but the first notebooks as files.
PICTURES = {"lib.datasets", "lib.decoded", "lib.mini", "lib.readers", "lib.world"}
PAINTERS = {"01_tasks", "02_pretrain"}
# What these notebooks draw is shown beside their work, and is worth no second training.
SHOWN = {"05_learn": {"lib.figures"}, "02_pretrain": {"lib.figures", "lib.results"}}


def cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    held = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in held if cell["cell_type"] == "code"]


def digest(source: str) -> str:
    """A hash of what Python source does: comments, docstrings and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def imported(source: str) -> set[str]:
    """Names of the modules of lib that a source imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lib":
            module = str(node.module)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "lib"}
    return {name for name in found if _file(name) is not None}


def _file(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in candidates if file.exists()), None)


def reached(modules: set[str], besides: set[str]) -> dict[str, str]:
    """The modules, and all that they import in turn, each with its digest; some are left out."""
    known: dict[str, str] = {}
    todo = modules - besides
    while todo:
        name = todo.pop()
        file = _file(name)
        assert file is not None
        source = file.read_text()
        known[name] = digest(source)
        todo |= imported(source) - besides - set(known)
    return dict(sorted(known.items()))


def of_notebook(notebook: Path) -> dict:
    """What a notebook runs: the digest of its cells, and of each module that they reach."""
    source = "\n".join(cells(notebook))
    besides = SILENT | SHOWN.get(notebook.stem, set()) | (set() if notebook.stem in PAINTERS else PICTURES)
    return {"cells": digest(source), "modules": reached(imported(source), besides)}


def of_method(name: str) -> dict[str, str]:
    """The modules that learning by a method reaches, with their digests."""
    return reached({"lib.learn", f"lib.methods.{METHODS[name].partition('.')[0]}"}, SILENT | PICTURES)


def files() -> dict[str, dict]:
    """What data/code must hold, by file name: a notebook's, a method's learning, the report's."""
    notebooks = sorted(NOTEBOOKS.glob("*.ipynb"))
    wanted = {f"{notebook.stem}.json": of_notebook(notebook) for notebook in notebooks}
    methods = {name: of_method(name) for name in METHODS}
    learn = wanted.pop(f"{LEARN}.json")
    for name, modules in methods.items():
        both = dict(sorted((learn["modules"] | modules).items()))
        wanted[f"{LEARN}--{name}.json"] = {"cells": learn["cells"], "modules": both}
    for modules in methods.values():  # the costs are every method's
        wanted[f"{COST}.json"]["modules"] |= modules
    tools = {"data.json": "lib.obtain", "report.json": "lib.report"}
    return wanted | {name: {"modules": reached({module}, SILENT)} for name, module in tools.items()}


def write(folder: Path = DATA / "code") -> None:
    """Writes the files, and removes those of notebooks and methods that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for path in set(folder.iterdir()) - {folder / name for name in wanted}:
        path.unlink()
    for name, content in wanted.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    write()

"""Digests of the code that a stage runs: stages depend on these, not on the bytes of files.

`python -m lib.study.code_digests` writes data/code/<notebook>.json, for the learning notebook one file for each method,
and one for each stage without a notebook. A digest is a hash of a syntax tree without comments and docstrings, in which
the digest of an imported module stands in place of its name (a Merkle tree): moving a file changes none.
"""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from lib.methods import METHODS
from lib.study.studies import DATA, NOTEBOOKS, ROOT

PROJECT = ("lib", "tools")
LEARN = "05_learn"  # has a digest for each method
# Notebooks that learn by methods which open_study imports by name.
LEARNERS = {"00_start_here": ["finetune", "moe_adapters"], "08_ablations": ["moe_adapters"], "09_cost": [*METHODS]}
# Modules that check, name or print. They cannot change a number; DVC tracks the params value by value.
SILENT = {
    *("lib.files", "lib.methods", "lib.settings", "lib.strict_yaml"),
    *(f"lib.study.{name}" for name in ("code_digests", "log", "params", "plan", "studies")),
}
# as in lib.data.folders
SOURCES = {"lib.data.folders", "tools.datasets.decode", "tools.datasets.hub_sets", "tools.miniworld.mini_tasks"}
# What draws or reads the tasks' pictures. Later notebooks get the pictures as files.
READERS = {*(f"tools.datasets.{name}" for name in ("catalogue", "formats", "splits")), "tools.miniworld.world"}
PICTURES = SOURCES | READERS
TASKS = "01_tasks"  # runs the sources, which are imported by name
PAINTERS = {TASKS, "02_pretrain"}
# Figures that these notebooks draw beside their work are not worth a second training.
SHOWN = {"02_pretrain": {"lib.report.figures"}, "05_learn": {"lib.report.figures"}}
TOOLS = {"data.json": "tools.datasets.fetch", "report.json": "tools.stages.report"}  # stages without a notebook


def cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    content = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in content if cell["cell_type"] == "code"]


class Digests(ast.NodeTransformer):
    """Digests of modules and of source text. Modules in `silent` count as nothing.

    Raises ValueError for modules that import each other in a circle.
    """

    def __init__(self, silent: set[str]) -> None:
        self.silent = silent
        self.digests: dict[str, str] = {}  # empty while they are being computed

    def of_module(self, name: str) -> str:
        """The digest of a module by its dotted name."""
        if name in self.silent:
            return ""
        if self.digests.get(name) == "":
            circle = [module for module, digest in self.digests.items() if not digest]
            raise ValueError(f"modules import each other in a circle: {' -> '.join([*circle, name])}")
        if name not in self.digests:
            self.digests[name] = ""
            file = module_file(name)
            assert file is not None, name
            self.digests[name] = self.of_source(file.read_text())
        return self.digests[name]

    def of_source(self, source: str) -> str:
        """The digest of Python source, without docstrings, and of all modules that it imports."""
        tree = ast.parse(source)
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if documented and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        return together(_text(self.visit(tree)))

    def visit_Import(self, node: ast.Import) -> ast.Import:
        """`import lib.x` with the digest in place of the name."""
        for alias in node.names:
            if in_project(alias.name):
                alias.asname, alias.name = alias.asname or alias.name, self.of_module(alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        """`from lib.x import y` with the digest in place of the module's name."""
        module = node.module or ""
        if in_project(module):
            node.module = ""
            for alias in node.names:
                submodule = f"{module}.{alias.name}"
                if module_file(submodule) is None:
                    node.module = self.of_module(module)
                else:
                    alias.asname, alias.name = alias.asname or alias.name, self.of_module(submodule)
        return node


def _text(node: Any) -> str:
    """A syntax tree as text. What is empty is left out: newer Pythons have more fields, and all of those are empty."""
    if isinstance(node, ast.AST):
        held = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={_text(value)}' for name, value in held)})"
    return f"[{', '.join(map(_text, node))}]" if isinstance(node, list) else repr(node)


def in_project(module: str) -> bool:
    """True for a module of this project, whose code counts."""
    return module.partition(".")[0] in PROJECT


def module_file(module: str) -> Path | None:
    """The file of a module or package; None if there is none."""
    place = ROOT.joinpath(*module.split("."))
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.exists()), None)


def of_method(name: str) -> str:
    """The digest of the code that learns by a method."""
    digests = Digests(SILENT | PICTURES)
    module = f"lib.methods.{METHODS[name].partition('.')[0]}"
    return together(digests.of_module("lib.study.stage"), digests.of_module(module))


def of_notebook(notebook: Path) -> str:
    """The digest of the code that a notebook runs."""
    pictures = set() if notebook.stem in PAINTERS else PICTURES
    digests = Digests(SILENT | pictures | SHOWN.get(notebook.stem, set()))
    sources = sorted(digests.of_module(module) for module in SOURCES) if notebook.stem == TASKS else []
    return together(digests.of_source("\n".join(cells(notebook))), *sources)


def together(*digests: str) -> str:
    """One digest for several texts."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def files() -> dict[str, str]:
    """The digest for every file of data/code: one a notebook, one a method's learning, one a tool."""
    found = {f"{notebook.stem}.json": of_notebook(notebook) for notebook in sorted(NOTEBOOKS.glob("*.ipynb"))}
    methods = {name: of_method(name) for name in METHODS}
    learn = found.pop(f"{LEARN}.json")
    found |= {f"{LEARN}--{name}.json": together(learn, digest) for name, digest in methods.items()}
    for notebook, names in LEARNERS.items():
        found[f"{notebook}.json"] = together(found[f"{notebook}.json"], *(methods[name] for name in names))
    return found | {name: Digests(SILENT).of_module(module) for name, module in TOOLS.items()}


def write(folder: Path = DATA / "code") -> None:
    """Writes the files and removes those of notebooks and methods that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for path in set(folder.iterdir()) - {folder / name for name in wanted}:
        path.unlink()
    for name, digest in wanted.items():
        (folder / name).write_text(json.dumps({"code": digest}) + "\n")


if __name__ == "__main__":
    write()

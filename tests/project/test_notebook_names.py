"""Notebooks use only names that the project has: a notebook that runs last would otherwise fail after hours."""

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lib.study.code_digests import cells, in_project
from lib.study.studies import NOTEBOOKS

FILES = sorted(NOTEBOOKS.rglob("*.ipynb"))


def project_names(tree: ast.Module) -> dict[str, Any]:
    """What a source imports from the project, by the name that it has there."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and in_project(node.module or ""):
            for alias in node.names:
                try:
                    imported: Any = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    imported = getattr(importlib.import_module(str(node.module)), alias.name)
                names[alias.asname or alias.name] = imported
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(NOTEBOOKS)))
def test_every_name_that_a_notebook_takes_from_the_project_exists(file: Path) -> None:
    tree = ast.parse("\n".join(cells(file)))
    modules = {name: value for name, value in project_names(tree).items() if isinstance(value, ModuleType)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"

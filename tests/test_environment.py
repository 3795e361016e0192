"""The ways in agree: pyproject.toml asks, requirements.lock pins, environment.yml and the Makefile install the pins."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.paths import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
LOCK = (ROOT / "requirements.lock").read_text()
BLOCKS = re.split(r"\n(?=[a-z0-9])", LOCK)  # one for each pin: the pin, its hashes, who asked for it
PINS = [Requirement(block.split("\\\n")[0]) for block in BLOCKS]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.mark.parametrize("wanted", DIRECT, ids=str)
def test_every_direct_dependency_is_pinned_within_its_bound(wanted: Requirement) -> None:
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert len(pins) == 1, f"`make lock` pins {wanted.name}"
    version = str(pins[0].specifier).removeprefix("==")
    assert wanted.specifier.contains(version), f"{version} is pinned, {wanted} is asked for: `make lock`"
    assert pins[0].marker is None


def test_every_pin_is_exact_and_has_hashes() -> None:
    for block, pin in zip(BLOCKS, PINS, strict=True):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), pin


def test_lock_has_no_addresses_and_no_machine() -> None:
    assert not re.search(r"://|^-|\s@\s|file:", LOCK, flags=re.M)


def test_lock_has_what_the_build_of_lib_needs() -> None:
    assert any(pin.name == "setuptools" for pin in PINS)  # `--no-build-isolation`


def test_conda_installs_the_same_python_and_the_lock() -> None:
    conda, pip = CONDA["dependencies"][:-1], CONDA["dependencies"][-1]
    assert pip == {"pip": ["-r requirements.lock"]}
    python = next(text for text in conda if text.startswith("python="))
    assert f">={python.removeprefix('python=')},<3.12" == PROJECT["requires-python"]
    assert CONDA["name"] == PROJECT["name"]


def test_makefile_installs_the_same_python_and_the_lock() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "PYTHON ?= python3.11\n" in makefile
    assert "--require-hashes -r requirements.lock" in makefile


def test_every_import_is_a_direct_dependency() -> None:
    declared = {canonicalize_name(wanted.name) for wanted in DIRECT}
    brought = packages_distributions()
    for name, where in imported().items():
        origin = {canonicalize_name(package) for package in brought.get(name, [])}
        assert origin & declared, (
            f"{where} imports {name}: add its package to pyproject.toml, then `make lock`"
        )


def imported() -> dict[str, str]:
    """Top-level names of other people's packages that lib, the tests and the notebooks import, each with one place."""
    sources = {
        str(path): path.read_text() for folder in ("lib", "tests") for path in (ROOT / folder).rglob("*.py")
    }
    for path in [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("course/**/*.ipynb")]:
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        sources[str(path)] = re.sub(r"^[%!].*", "", code, flags=re.M)
    own = {"lib", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    found = {}
    for where, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: where for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.split(".")[0]] = where
    return {name: where for name, where in found.items() if name not in own | sys.stdlib_module_names}

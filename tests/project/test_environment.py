"""The ways in agree: pyproject.toml asks, requirements.lock pins; environment.yml, the Makefile and .binder install."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.study.paths import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"] + EXTRAS]
LOCK = (ROOT / "requirements.lock").read_text()
BLOCKS = re.split(r"\n(?=[a-z0-9])", LOCK)  # one for each pin: the pin, its hashes, who asked for it
PINS = [Requirement(block.split("\\\n")[0]) for block in BLOCKS]
BINDER = ROOT / ".binder"
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


def test_binder_and_colab_get_the_same_python_and_the_lock(tmp_path: Path) -> None:
    assert (BINDER / "runtime.txt").read_text() == f"python-{sys.version_info[0]}.{sys.version_info[1]}\n"
    assert post_build(tmp_path) == [
        "-m pip install --no-cache-dir --require-hashes -r requirements.lock",
        "-m pip install --no-cache-dir --no-deps --no-build-isolation -e .",
        "-c from lib.study import open_study; open_study().ensure()",
    ]


def test_another_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        post_build(tmp_path, version=1)
    assert "the lock is for Python 3.11" in refused.value.stderr
    assert not (tmp_path / "asked").exists()


def test_what_binder_and_colab_read_has_no_address_and_no_path_of_a_machine() -> None:
    for file in BINDER.iterdir():
        assert not re.search(r"://|/(?:home|root|Users|tmp|work)/", file.read_text()), file


def post_build(folder: Path, version: int = 0) -> list[str]:
    """What the script asks of a Python that only takes notes; version: the status of the question for its version."""
    python = folder / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *version_info*) exit {version};; --version) exit;; esac\n'
        f'pwd >> {folder}/where; echo "$*" >> {folder}/asked\n'
    )
    python.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    script = [str(BINDER / "postBuild")]
    subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert set((folder / "where").read_text().split()) == {str(ROOT)}
    return (folder / "asked").read_text().splitlines()


def test_every_import_is_a_direct_dependency() -> None:
    declared = {canonicalize_name(wanted.name) for wanted in DIRECT}
    brought = packages_distributions()
    for name, where in imported().items():
        origin = {canonicalize_name(package) for package in brought.get(name, [])}
        assert origin & declared, f"{where} imports {name}: add its package to pyproject.toml, then `make lock`"


def imported() -> dict[str, str]:
    """Top-level names of other people's packages that lib, the tests and the notebooks import, each with one place."""
    sources = {
        str(path): path.read_text() for folder in ("lib", "tools", "tests") for path in (ROOT / folder).rglob("*.py")
    }
    for path in [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("course/**/*.ipynb")]:
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        sources[str(path)] = re.sub(r"^[%!].*", "", code, flags=re.M)
    own = {"lib", "tools", "tests"}
    found = {}
    for where, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: where for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.split(".")[0]] = where
    return {name: where for name, where in found.items() if name not in own | sys.stdlib_module_names}

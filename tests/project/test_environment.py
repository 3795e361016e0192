"""The ways in agree: pyproject.toml asks, requirements.lock pins; environment.yml, the Makefile and .binder install."""

import ast
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

from lib.study.code_digests import cells
from lib.study.studies import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"] + EXTRAS]
LOCK = (ROOT / "requirements.lock").read_text()
BLOCKS = re.split(r"\n(?=[a-z0-9])", LOCK)  # one for each pin: the pin, its hashes, who asked for it
PINS = [Requirement(block.split("\\\n")[0]) for block in BLOCKS]
CHOSEN = "3.11"  # where there is a choice
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize("wanted", DIRECT, ids=str)
def test_every_direct_dependency_is_pinned_within_its_bound(wanted: Requirement) -> None:
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert len(pins) == 1, f"`make lock` pins {wanted.name}"
    version = str(pins[0].specifier).removeprefix("==")
    assert wanted.specifier.contains(version), f"{version} is pinned, {wanted} is asked for: `make lock`"
    assert pins[0].marker is None


def test_every_pin_is_exact_and_has_hashes_and_no_address() -> None:
    for block, pin in zip(BLOCKS, PINS, strict=True):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), pin
    assert not re.search(r"://|^-|\s@\s|file:", LOCK, flags=re.M)
    assert any(pin.name == "setuptools" for pin in PINS)  # `--no-build-isolation` takes the one that is installed


def test_conda_make_binder_and_colab_install_the_same_python_and_the_lock(tmp_path: Path) -> None:
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert allowed.contains(PYTHON)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert f"python={CHOSEN}" in conda["dependencies"]
    assert conda["dependencies"][-1] == {"pip": ["-r requirements.lock"]}
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"foreach version,([\d. ]+),", makefile)[0].split()
    assert named[0] == CHOSEN
    assert all(allowed.contains(version) for version in named)
    assert "--require-hashes -r requirements.lock" in makefile
    assert (ROOT / ".binder" / "runtime.txt").read_text() == f"python-{CHOSEN}\n"
    assert post_build(tmp_path) == [
        "-m pip install --no-cache-dir --require-hashes -r requirements.lock",
        "-m pip install --no-cache-dir --no-deps --no-build-isolation -e .",
        "-c from lib.study import open_study; open_study().ensure()",
    ]


def test_another_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        post_build(tmp_path, version=1)
    assert "3.11.4 to 3.13" in refused.value.stderr
    assert not (tmp_path / "asked").exists()


def test_beside_another_pytorch_all_else_is_as_in_the_lock(tmp_path: Path) -> None:
    install = post_build(tmp_path, "beside")[2]
    assert install.startswith("-m pip install --no-cache-dir --no-deps --require-hashes -r ")
    made = subprocess.run(
        [sys.executable, ROOT / ".binder" / "without_torch.py"], capture_output=True, check=True, text=True
    )
    kept = re.split(r"\n(?=[a-z0-9])", made.stdout.removesuffix("\n"))
    gone = {Requirement(block.split("\\\n")[0]).name for block in set(BLOCKS) - {*kept, *(f"{b}\n" for b in kept)}}
    assert {"torch", "torchvision", "triton"} < gone
    assert all(name.startswith(("torch", "triton", "nvidia-", "cuda-")) for name in gone)


def post_build(folder: Path, *words: str, version: int = 0) -> list[str]:
    """What the script asks of a Python that only takes notes; version: the status of the question for its version."""
    python = folder / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *version_info*) exit {version};; --version) exit;; esac\n'
        f'pwd >> {folder}/where; echo "$*" >> {folder}/asked\n'
    )
    python.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    script = [str(ROOT / ".binder" / "postBuild"), *words]
    subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert set((folder / "where").read_text().split()) == {str(ROOT)}
    return (folder / "asked").read_text().splitlines()


def test_every_import_is_a_direct_dependency() -> None:
    declared = {canonicalize_name(wanted.name) for wanted in DIRECT}
    origins = packages_distributions()
    for name, where in imported().items():
        origin = {canonicalize_name(package) for package in origins.get(name, [])}
        assert origin & declared, f"{where} imports {name}: add its package to pyproject.toml, then `make lock`"


def imported() -> dict[str, str]:
    """Top-level names of other people's packages that the project imports, each with one place."""
    files = [path for room in ("lib", "tools", "tests") for path in (ROOT / room).rglob("*.py")]
    sources = {str(path): path.read_text() for path in files}
    sources |= {str(path): "\n".join(cells(path)) for path in ROOT.glob("notebooks/**/*.ipynb")}
    nodes = [(node, where) for where, source in sources.items() for node in ast.walk(ast.parse(source))]
    paths = {alias.name: where for node, where in nodes if isinstance(node, ast.Import) for alias in node.names}
    paths |= {node.module: where for node, where in nodes if isinstance(node, ast.ImportFrom) and node.module}
    names = {path.split(".")[0]: where for path, where in paths.items()}
    own = {"lib", "tools", "tests"} | sys.stdlib_module_names
    return {name: where for name, where in names.items() if name not in own}

"""The rules between rooms, and the sizes of files and functions."""

import ast
import subprocess
import sys

import pytest

from lib.study.paths import ROOT
from tools import rooms

FILE, FUNCTION = 250, 40  # lines at most
PLAIN = ("lib.clip", "lib.moe", "lib.selector")  # rooms that a reader can take into another project


def test_rooms_import_only_what_they_may() -> None:
    subject = {room for room in rooms.ALLOWED if room.startswith("lib.")}
    for (room, imported), modules in rooms.arrows().items():
        if room in rooms.ALLOWED and imported not in rooms.LEAVES:
            allowed = rooms.ALLOWED[room] | (subject if room.startswith("tools.") else set())
            assert imported in allowed, f"{', '.join(sorted(modules))} may not import {imported}"


def test_every_room_has_its_rule_and_its_place_in_the_picture() -> None:
    packages = {rooms.room_of(module) for module in rooms.modules() if module.count(".") > 1}
    assert packages == set(rooms.ALLOWED) == set(rooms.PLACES)


@pytest.mark.parametrize("room", PLAIN)
def test_the_method_alone_needs_no_params_no_paths_and_no_yaml(room: str) -> None:
    code = f"import {room}, sys; print([m for m in sys.modules if m.startswith(('lib.study', 'lib.data', 'tools'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_report_needs_no_torch() -> None:
    code = "import lib.report.page, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_and_functions_are_short() -> None:
    files = [*rooms.modules().values(), *ROOT.glob("tests/**/*.py")]
    for file in files:
        source = file.read_text()
        assert len(source.splitlines()) <= FILE, f"{file.relative_to(ROOT)} has over {FILE} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < FUNCTION, f"{file.relative_to(ROOT)}: {node.name}"

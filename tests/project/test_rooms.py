"""The rules between rooms, and the sizes of files and functions."""

import ast
import subprocess
import sys

import pytest

from lib.study.studies import ROOT
from tools import rooms

FILE, FUNCTION = 250, 40  # lines at most


def test_rooms_import_only_what_they_may() -> None:
    subject = {room for room in rooms.ALLOWED if room.startswith("lib.")}
    for (room, imported), modules in rooms.arrows().items():
        if room in rooms.ALLOWED and imported not in rooms.LEAVES:
            allowed = rooms.ALLOWED[room] | (subject if room.startswith("tools.") else set())
            assert imported in allowed, f"{', '.join(sorted(modules))} may not import {imported}"


def test_every_room_has_its_rule_and_its_place_in_the_picture() -> None:
    packages = {rooms.room_of(module) for module in rooms.modules() if module.count(".") > 1}
    assert packages == set(rooms.ALLOWED) == set(rooms.PLACES)


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        ("lib.clip, lib.moe, lib.selector", ("lib.study", "lib.data", "lib.strict_yaml", "tools")),
        ("lib.report.page", ("torch",)),
    ],
)
def test_what_is_imported_alone_brings_nothing_of_other_rooms(names: str, absent: tuple[str, ...]) -> None:
    code = f"import {names}, sys; print([m for m in sys.modules if m.startswith({absent})])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_and_functions_are_short() -> None:
    for file in [*rooms.modules().values(), *ROOT.glob("tests/**/*.py")]:
        source = file.read_text()
        assert len(source.splitlines()) <= FILE, f"{file.relative_to(ROOT)} has over {FILE} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < FUNCTION, f"{file.relative_to(ROOT)}: {node.name}"

"""What is said of pip-audit's reports."""

import pytest

from tests import audit

GONE = {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited: own (0.1)"}
WELL = {"name": "numpy", "version": "2.4", "vulns": []}
ILL = {
    "name": "pillow",
    "version": "9.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.1"], "aliases": ["CVE-1"], "description": "a bomb"}],
}


def report(*packages: dict) -> dict:
    return {"dependencies": list(packages), "fixes": []}


def test_a_lock_without_vulnerabilities_passes() -> None:
    assert audit.judge(report(WELL), {}, strict=True) == (
        ["1 packages audited, 0 vulnerabilities that are not excepted"],
        0,
    )


def test_a_vulnerability_fails_and_names_package_identifier_and_cure() -> None:
    lines, status = audit.judge(report(WELL, ILL), {}, strict=False)
    assert status == 1
    assert lines[0] == "pillow 9.0: PYSEC-1, mended in 9.1; `make lock MORE=--upgrade`"


def test_one_that_is_excepted_passes_with_its_reason() -> None:
    lines, status = audit.judge(report(WELL, ILL), {"PYSEC-1": "no such picture is read"}, strict=True)
    assert status == 0
    assert "PYSEC-1 is known: no such picture is read" in lines


def test_an_exception_that_is_no_longer_needed_fails() -> None:
    lines, status = audit.judge(report(WELL), {"PYSEC-1": "no such picture is read"}, strict=False)
    assert status == 1
    assert lines[0] == "PYSEC-1 is excepted but not found; take it out of EXCEPTIONS"


@pytest.mark.parametrize("none", [None, report(), report(GONE), report(GONE, GONE)])
def test_without_advisories_it_is_said_and_fails_only_where_that_is_asked(none: dict | None) -> None:
    for strict in (False, True):
        lines, status = audit.judge(none, {"PYSEC-1": "kept: nothing is known"}, strict)
        assert lines == ["NOT AUDITED: the advisories cannot be reached; run `make audit` with a network"]
        assert status == strict


def test_a_package_that_is_not_known_is_named() -> None:
    for strict in (False, True):
        lines, status = audit.judge(report(WELL, GONE), {}, strict)
        assert "NOT AUDITED: own (not on PyPI)" in lines
        assert status == strict


@pytest.mark.parametrize("text", ["", "Traceback", "[]", "{}"])
def test_what_is_no_report_is_none(text: str) -> None:
    assert audit.parsed(text) is None


def test_a_report_is_read() -> None:
    assert audit.parsed('{"dependencies": [], "fixes": []}') == report()


def test_every_exception_has_a_reason() -> None:
    assert all(len(reason.split()) > 3 for reason in audit.EXCEPTIONS.values())

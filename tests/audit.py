"""Asks whether a locked package has a known vulnerability: `make audit`, from the advisories of PyPI.

Without the advisories nothing is known, and that is said: NOT AUDITED, which is a failure with --strict alone. A
vulnerability that does not concern this project stands in EXCEPTIONS with the reason, for as long as it is found.
"""

import argparse
import json
import subprocess
import sys
from typing import Any, NamedTuple

from lib.study.paths import ROOT

# Every identifier with the reason why the project is not concerned.
EXCEPTIONS: dict[str, str] = {}
COMMAND = [
    *(sys.executable, "-m", "pip_audit", "-r", "requirements.lock", "--disable-pip", "--require-hashes"),
    *("--format", "json", "--progress-spinner", "off"),
]


class Verdict(NamedTuple):
    """What is said, line by line, and the exit status."""

    lines: list[str]
    status: int


def judge(report: dict[str, Any] | None, exceptions: dict[str, str], strict: bool) -> Verdict:
    """The verdict on pip-audit's report; None where there is none. strict: what was not audited is a failure."""
    packages = report["dependencies"] if report else []
    skipped = [p["name"] for p in packages if "skip_reason" in p]
    if len(skipped) == len(packages):
        return Verdict(["NOT AUDITED: the advisories cannot be reached; run `make audit` with a network"], int(strict))
    found = {f["id"]: (p, f) for p in packages for f in p.get("vulns", ())}
    bad = [_sentence(p, f) for key, (p, f) in found.items() if key not in exceptions]
    old = [f"{key} is excepted but not found; take it out of EXCEPTIONS" for key in exceptions if key not in found]
    missed = [f"NOT AUDITED: {', '.join(skipped)} (not on PyPI)"] if skipped else []
    told = [f"{key} is known: {exceptions[key]}" for key in found if key in exceptions]
    audited = f"{len(packages) - len(skipped)} packages audited, {len(bad)} vulnerabilities that are not excepted"
    return Verdict([*bad, *old, *told, *missed, audited], int(bool(bad or old or (strict and missed))))


def _sentence(package: dict[str, Any], found: dict[str, Any]) -> str:
    cure = " or ".join(found["fix_versions"]) or "none yet"
    return f"{package['name']} {package['version']}: {found['id']}, mended in {cure}; `make lock MORE=--upgrade`"


def parsed(text: str) -> dict[str, Any] | None:
    """pip-audit's report; None if it wrote none, as without a network."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) and "dependencies" in report else None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python tests/audit.py", description="Audit the locked packages.")
    parser.add_argument("--strict", action="store_true", help="fail where nothing is known, too")
    asked = parser.parse_args()
    done = subprocess.run(COMMAND, cwd=ROOT, text=True, capture_output=True)
    verdict = judge(parsed(done.stdout), EXCEPTIONS, asked.strict)
    if not done.stdout:
        print("\n".join(done.stderr.strip().splitlines()[-1:]), file=sys.stderr)  # why there is no report
    print("\n".join(verdict.lines))
    return verdict.status


if __name__ == "__main__":
    sys.exit(main())

"""Links that open the course's notebooks on Colab and Binder: `python -m lib.badges` writes them on the teacher's page.

They need the public address of this copy, which has one home: `repository-code` in CITATION.cff. They are words, no
pictures: the page loads nothing from a network.
"""

import re
from pathlib import Path

import yaml

from lib.course import STUDENTS
from lib.paths import ROOT
from lib.report import with_table

TEACHERS = STUDENTS / "README.md"
CITATION = ROOT / "CITATION.cff"
MARKS = ("<!-- badges: `python -m lib.badges` writes these links -->", "<!-- end of badges -->")
BRANCH = "main"
SERVICES = {
    "Colab": "https://colab.research.google.com/github/{repository}/blob/{branch}/{notebook}",
    "Binder": "https://mybinder.org/v2/gh/{repository}/{branch}?labpath={notebook}",
}
NO_ADDRESS = (
    "*No links yet: put the public address of your copy into `CITATION.cff` "
    "(`repository-code: https://github.com/OWNER/NAME`), then `make course`.*"
)


def repository(file: Path = CITATION) -> str:
    """Owner and name of this copy on GitHub; empty if CITATION.cff says none. Raises ValueError if it is another."""
    address = yaml.safe_load(file.read_text()).get("repository-code", "")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if address and not found:
        raise ValueError(
            f"{file.name}: repository-code is {address!r}; it must read https://github.com/OWNER/NAME"
        )
    return found[1] if found else ""


def table(repository: str) -> str:
    """A line of links for each notebook of the course, or how to get them."""
    if not repository:
        return NO_ADDRESS
    lines = [f"| notebook | {' | '.join(SERVICES)} |", f"|{' --- |' * (1 + len(SERVICES))}"]
    for path in sorted(STUDENTS.glob("*.ipynb")):
        about = {"repository": repository, "branch": BRANCH, "notebook": path.relative_to(ROOT).as_posix()}
        links = (f"[{name}]({address.format(**about)})" for name, address in SERVICES.items())
        lines.append(f"| {path.stem} | {' | '.join(links)} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the links, or how to get them, on the teacher's page."""
    TEACHERS.write_text(with_table(TEACHERS.read_text(), table(repository()), MARKS))


if __name__ == "__main__":
    main()

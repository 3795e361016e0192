"""Names the packages that are missing here, or older than pyproject.toml asks for."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
print(f"Python {sys.version.split()[0]}; the study asks for {project['requires-python']}")
for text in project["dependencies"]:
    wanted = Requirement(text)
    try:
        here = version(wanted.name)
    except PackageNotFoundError:
        here = ""
    if not wanted.specifier.contains(here or "0"):
        print(f"{wanted.name}: {here or 'missing'} is here, {wanted.specifier} is asked for")

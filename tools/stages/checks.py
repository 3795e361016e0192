"""What is checked before a study starts: pictures, methods and tasks (lib.study.check), backbone, git."""

from pathlib import Path

from lib.data.folders import task_names
from lib.study import studies
from lib.study.check import check as check_study
from lib.study.params import ParamsError, Study
from lib.study.plan import weights
from lib.study.studies import ROOT


def check(study: Study, root: Path = ROOT) -> None:
    """Raises ValueError, with one line, for the first thing that would stop the study later."""
    if study.tasks.source == "folder":
        there = task_names(root / study.tasks.root)
        for order, tasks in study.tasks.orders.items():
            if missing := [name for name in tasks if name not in there]:
                file = studies.file_of(study.study, root).relative_to(root)
                raise ParamsError(
                    f"{file}: tasks.orders.{order} has {', '.join(missing)}; there are: {', '.join(there)}"
                )
    check_study(study)
    place = weights(study)
    if place and not (root / place).exists():
        raise ParamsError(f"study {study.study}: the backbone {place} is missing; `git checkout data` brings it back")


def settle_without_git(root: Path = ROOT) -> None:
    """Tells DVC that there is no git, if the project is a copy without it, such as a downloaded archive."""
    local = root / ".dvc" / "config.local"
    if not (root / ".git").exists() and not local.exists():
        local.write_text("[core]\n    no_scm = true\n    autostage = false\n")

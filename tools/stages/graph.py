"""The study's task graph, as DVC has it: which stages there are, what each waits for, which are out of date."""

from typing import Any

import networkx as nx
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from lib.study.paths import ROOT


def address(folder: str, stage: str) -> str:
    """A stage of a study's folder as DVC names it from the root."""
    return stage if folder == "." else f"{folder}/dvc.yaml:{stage}"


class Graph:
    """The targets and all stages that they need. Raises ValueError for a target that dvc.yaml does not have."""

    def __init__(self, targets: list[str]) -> None:
        self.repo: Any = Repo(str(ROOT))
        try:
            whole = self.repo.index.graph  # from a stage to those whose outputs it reads
        except DvcException as error:
            raise ValueError(
                f"the stages cannot be read: {error}. A file cut short comes back with `git checkout -- FILE`; "
                "stages that ran since then are looked at again"
            ) from error
        named = {stage.addressing: stage for stage in whole}
        unknown = [target for target in targets if target not in named]
        if unknown:
            raise ValueError(f"there is no stage {', '.join(unknown)}; `dvc stage list --all` names all")
        wanted = {named[target] for target in targets}
        self.stages = named
        self.graph = whole.subgraph(wanted.union(*(nx.descendants(whole, stage) for stage in wanted)))

    def waits_for(self) -> dict[str, set[str]]:
        """Every stage with the stages whose outputs it reads, all by their addresses."""
        successors = self.graph.successors
        return {stage.addressing: {other.addressing for other in successors(stage)} for stage in self.graph}

    def outdated(self) -> set[str]:
        """The stages that have changed or wait, directly or not, for one that has; DVC is to look at them again.

        Raises ValueError while another process runs a stage of them.
        """
        try:
            with self.repo.lock:
                changed = {stage for stage in self.graph if stage.status()}
        except LockError as error:
            raise ValueError(
                f"stages of this study are running already; wait for them or stop them. {error}"
            ) from error
        except DvcException as error:
            raise ValueError(f"DVC's notes on running stages are broken ({error}); delete .dvc/tmp/rwlock") from error
        return {s.addressing for s in changed.union(*(nx.ancestors(self.graph, s) for s in changed))}

    def changed(self, stage: str) -> bool:
        """Whether a stage has to run again, as far as can be told now; DVC itself decides where it cannot."""
        try:
            with self.repo.lock:
                return bool(self.stages[stage].status())
        except (LockError, DvcException):  # another stage is just beginning or ending, or notes are broken
            return True

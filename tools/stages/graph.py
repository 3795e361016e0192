"""The graph of stages as DVC has it: what each stage waits for, and which have to run."""

from collections.abc import Iterable
from typing import Any

import networkx as nx
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from lib.study.studies import REPORTS, ROOT

LEARN = "learn@"
CODE = "studies/dvc.yaml:code"  # says what code each stage runs
PRETRAIN = "studies/dvc.yaml:pretrain"  # runs for 40 minutes; its outputs are committed, so only if it is a target


def address(folder: str, stage: str) -> str:
    """A stage of a study's folder as DVC names it from the root."""
    return stage if folder == "." else f"{folder}/dvc.yaml:{stage}"


def learning_stage(stage: str) -> str:
    """The key in the plan of a learning stage; empty for another stage."""
    return stage.partition(LEARN)[2]


class Graph:
    """The targets and all stages that they need. Raises ValueError for a target that no dvc.yaml has.

    take_over: a stage does not run again only because outputs are missing that git does not hold, such as checkpoints.
    """

    def __init__(self, targets: list[str], take_over: bool = False) -> None:
        self.repo: Any = Repo(str(ROOT), _wait_for_lock=True)
        self.take_over = take_over
        try:
            whole = self.repo.index.graph  # from a stage to those whose outputs it reads
        except DvcException as error:
            raise ValueError(
                f"the stages cannot be read: {error}. A file cut short comes back with `git checkout -- FILE`; "
                "stages that ran since then run again"
            ) from error
        self.stages = {stage.addressing: stage for stage in whole}
        if unknown := [target for target in targets if target not in self.stages]:
            raise ValueError(f"there is no stage {', '.join(unknown)}; `dvc stage list --all` names all")
        wanted = {self.stages[target] for target in targets}
        needed = wanted.union(*(nx.descendants(whole, stage) for stage in wanted))
        self.graph = whole.subgraph({s for s in needed if s in wanted or s.addressing != PRETRAIN})

    def waits_for(self) -> dict[str, set[str]]:
        """Every stage with the stages whose outputs it reads, all by their addresses."""
        return {stage.addressing: {other.addressing for other in self.graph.successors(stage)} for stage in self.graph}

    def changed(self, stages: Iterable[str]) -> set[str]:
        """Those of these stages that have to run. Raises ValueError while another process runs one of them."""
        try:
            return {stage for stage in stages if self._has_to_run(self.stages[stage])}
        except LockError as error:
            raise ValueError(
                f"stages of this study are running already; wait for them or stop them. {error}"
            ) from error
        except DvcException as error:
            raise ValueError(f"DVC's notes on running stages are broken ({error}); delete .dvc/tmp/rwlock") from error

    def outdated(self) -> set[str]:
        """The stages that have to run, and all that depend on them. Raises ValueError as `changed` does.

        The stage `code` has run before: what it has changed shows in the stages that read it.
        """
        changed = {self.stages[stage] for stage in self.changed(self.waits_for().keys() - {CODE})}
        return {s.addressing for s in changed.union(*(nx.ancestors(self.graph, s) for s in changed))}

    def has_to_run(self, stage: str) -> bool:
        """Whether a stage has to run, now that those before it are done; DVC decides where this cannot be said."""
        try:
            return self._has_to_run(self.stages[stage])
        except DvcException:  # another stage is just beginning or ending, or notes are broken
            return True

    def _has_to_run(self, stage: Any) -> bool:
        with self.repo.lock:
            if not self.take_over:
                return stage.changed()
            before = list(self.graph.successors(stage)) if stage in self.graph else []
            return stage.changed(allow_missing=True, upstream=before) or any(
                not out.exists and REPORTS.as_posix() in out.fs_path for out in stage.outs
            )

    def has_outputs(self, stage: str) -> bool:
        """Whether all outputs of a stage are there."""
        return all(out.exists for out in self.stages[stage].outs)

    def makers_of_missing_inputs(self, stage: str) -> set[str]:
        """The stages that make what a stage reads and what is not there."""
        missing = [dep.fs_path for dep in self.stages[stage].deps if not dep.exists]
        before = self.graph.successors(self.stages[stage]) if self.stages[stage] in self.graph else []
        return {
            other.addressing
            for other in before
            for out in other.outs
            if any(f"{path}/".startswith(f"{out.fs_path}/") for path in missing)
        }

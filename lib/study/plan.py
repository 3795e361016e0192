"""The plan: the flat list of learning stages that `dvc.yaml` unfolds, made from a study's params.

`python -m lib.study.plan [STUDY ...]` writes plan.yaml of the default study, which is committed, and folders
studies/<name> of others, from which DVC reads them: all params, the plan and a copy of dvc.yaml. These folders are not
committed, and not ignored by git either: DVC refuses a dvc.yaml that git ignores.
"""

import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.data.folders import source
from lib.methods import method_class
from lib.settings import ParamsError, build
from lib.study import params, studies
from lib.study.studies import ROOT

HEAD = "# made by `python -m lib.study.plan`: do not edit\n"


@dataclass(frozen=True)
class Item:
    """A learning stage: the `tasks` tasks of a run in one order, with one seed.

    checkpoint: the folder of the last one; with every_task those of the tasks before lie inside it, by task number.
    """

    run: str
    method: str
    order: str
    seed: int
    tasks: int
    every_task: bool
    checkpoint: str
    result: str

    @property
    def moments(self) -> list[str]:
        """The folders of all checkpoints that the stage leaves, in the order of learning."""
        before = [f"{self.checkpoint}/{number}" for number in range(self.tasks - 1)] if self.every_task else []
        return [*before, self.checkpoint]


def items(study: params.Study) -> dict[str, Item]:
    """Every learning stage of a study by name."""
    plan: dict[str, Item] = {}
    for run, settings in study.runs.items():
        for order, seeds in seeds_of(study, run).items():
            method, count = params.method_of(run), len(tasks_of(study, run, order))
            for seed in seeds:
                key, every_task = f"{run}--{order}--s{seed}", settings.by_task and seed == settings.seeds[0]
                places = (f"data/{study.study}/runs/{key}", f"reports/results/{study.study}/{key}.json")
                plan[key] = Item(run, method, order, seed, count, every_task, *places)
    return plan


def seeds_of(study: params.Study, run: str) -> dict[str, list[int]]:
    """The seeds of a run, by order."""
    settings = study.runs[run]
    if isinstance(settings.orders, dict):
        return {order: settings.seeds[:count] for order, count in settings.orders.items()}
    return dict.fromkeys(settings.orders or [main_order(study)], settings.seeds)


def find(study: params.Study, key: str) -> Item:
    """The stage of that name. Raises ParamsError, with the names that exist, for an unknown one."""
    plan = items(study)
    if key not in plan:
        raise ParamsError(f"study {study.study} has no stage {key!r}; it has: {', '.join(plan)}")
    return plan[key]


def main_order(study: params.Study) -> str:
    """The first of a study's orders."""
    return next(iter(study.tasks.orders))


def tasks_of(study: params.Study, run: str, order: str) -> list[str]:
    """The names of the tasks that a run learns, in order; a task cut in two is name.1 and name.2."""
    cut = len(study.tasks.cut) or study.runs[run].set.get("cut", 1)
    names = study.tasks.orders[order]
    return names if cut == 1 else [f"{name}.{part + 1}" for name in names for part in range(cut)]


def manifest(study: str) -> str:
    """The file that says of what the features of the frozen CLIP were computed; the same on every machine."""
    return f"data/{study}/features/manifest.json"


def main_story(study: params.Study) -> list[str]:
    """The names of the stages of the first seed, in the first order, of every run that is part of the story."""
    order, plan = main_order(study), items(study)
    firsts = [f"{run}--{order}--s{settings.seeds[0]}" for run, settings in study.runs.items() if settings.story]
    return [key for key in firsts if key in plan]


def first_of(study: params.Study, run: str) -> Item | None:
    """The stage of a run's first seed in the main order; None if the study has no such run."""
    return next((i for i in items(study).values() if (i.run, i.order) == (run, main_order(study))), None)


def weights(study: params.Study) -> str:
    """The folder or file of the backbone's weights; empty for a CLIP that open_clip downloads by its name."""
    places = [study.backbone.pretrained, study.backbone.model]
    return next((p for p in places if p and (("/" in p and ":" not in p) or (ROOT / p).exists())), "")


def files(name: str, root: Path = ROOT) -> dict[Path, str]:
    """What DVC reads of a study: the content of each file that has to be generated."""
    file = studies.file_of(name, root)
    where = str(file.relative_to(root))
    numbers = params.with_orders(studies.read(file), where, root)
    study = params.parse(numbers, where)
    if study.study != name:  # else it would write over another study's files
        raise ParamsError(f"{where}: study is {study.study!r}; it must be {name!r}")
    if name == "mini":
        return {root / "plan.yaml": _yaml(_variables(study))}
    plan = _variables(study, f"studies/{name}/", f"{name}/", "../..")
    made = {"params.yaml": _yaml(numbers), "plan.yaml": _yaml(plan), "dvc.yaml": HEAD + (root / "dvc.yaml").read_text()}
    return {root / "studies" / name / file: text for file, text in made.items()}


def _variables(study: params.Study, folder: str = "", pages: str = "", root: str = ".") -> dict[str, Any]:
    """The variables of dvc.yaml. A dep that this study lacks is one that the stage has anyway."""
    asked = {run: first_of(study, run) for run in ("moe_adapters", "beyond")}  # by the notebooks 8 and 10
    return {
        "root": root,
        "file": f"{folder}params.yaml",
        "pages": f"reports/{pages}".rstrip("/"),
        **{run: item.checkpoint if item else manifest(study.study) for run, item in asked.items()},
        "weights": weights(study) or "data/code/data.json",
        "pictures": study.tasks.root if study.tasks.source == "folder" else f"data/{study.study}/data.json",
        "learn": {key: asdict(item) for key, item in items(study).items()},
    }


def _yaml(content: dict[str, Any]) -> str:
    return HEAD + yaml.safe_dump(content, sort_keys=False)


def write(*names: str, root: Path = ROOT) -> list[str]:
    """Brings what DVC reads in step with the params: of mini, of these studies, and of those that have a folder."""
    stale = {path: text for name in {"mini": 0, **dict.fromkeys(names)} for path, text in files(name, root).items()}
    for name in studies.names(root):
        if (root / "studies" / name / "dvc.yaml").exists() and name not in names:
            with suppress(ParamsError):  # the error of a study that nobody asked for
                stale |= files(name, root)
    stale = {path: text for path, text in stale.items() if not path.exists() or path.read_bytes() != text.encode()}
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return [str(path.relative_to(root)) for path in stale]


def check(study: params.Study) -> None:
    """Raises ParamsError for a task that its source does not have, or a method that cannot be made with its settings.

    It loads the source and every method, which takes seconds: call it once, before stages are started.
    """
    where = f"study {study.study}"
    names = getattr(source(study.tasks.source), "NAMES", study.tasks.orders[main_order(study)])
    for order, listed in study.tasks.orders.items():
        if unknown := [name for name in listed if name not in names]:
            given = f"tasks.orders.{order} has {', '.join(unknown)}"
            raise ParamsError(f"{where}: {given}; there are: {', '.join(names)}")
    for run in study.runs:
        method = method_class(params.method_of(run))
        if method.needs_reference and study.reference is None:
            raise ParamsError(f"{where}, run {run} needs pictures of none of the tasks; add a section `reference:`")
        rates = getattr(build(method.Settings, params.settings_of(study, run), f"{where}, run {run}"), "lr", None)
        tasks = {name for order in seeds_of(study, run) for name in tasks_of(study, run, order)}
        if isinstance(rates, dict) and (missing := tasks - set(rates)):
            given = f"lr has no entry for task {', '.join(sorted(missing))}"
            raise ParamsError(f"{where}, run {run}: {given}; it has: {', '.join(rates)}")


if __name__ == "__main__":
    print("\n".join(f"written: {path}" for path in write(*sys.argv[1:])) or "all plans are in step")

"""The plan: the flat list of learning stages that `dvc.yaml` unfolds, made from a study's params.

`python -m lib.study.plan` writes plan.yaml for the default study and for each folder of studies/, and copies dvc.yaml there:
all studies have the same stages. `python -m lib.study.plan --check` only says whether the files are in step.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from lib.study import params
from lib.study.paths import ROOT


@dataclass(frozen=True)
class Item:
    """A stage: learn tasks number `first` to `stop` - 1 of a run, from a parent checkpoint."""

    run: str
    method: str
    order: str
    seed: int
    first: int
    stop: int
    parent: str  # the checkpoint it starts from; for a run's first stage the features of the frozen CLIP
    checkpoint: str
    result: str


def items(study: params.Study) -> dict[str, Item]:
    """Every learning stage of a study by name, parents before children."""
    plan: dict[str, Item] = {}
    for run, settings in study.runs.items():
        for order in settings.orders or [main_order(study)]:
            names = tasks_of(study, run, order)
            for seed in settings.seeds:
                chained = settings.by_task and seed == settings.seeds[0]
                plan |= _stages(study.study, run, chained, order, names, seed)
    return plan


def find(study: params.Study, key: str) -> Item:
    """The stage of that name. Raises ParamsError, with the names that exist, for an unknown one."""
    plan = items(study)
    if key not in plan:
        raise params.ParamsError(f"study {study.study} has no stage {key!r}; it has: {', '.join(plan)}")
    return plan[key]


def main_order(study: params.Study) -> str:
    """The first of a study's orders."""
    return next(iter(study.tasks.orders))


def tasks_of(study: params.Study, run: str, order: str) -> list[str]:
    """The names of the tasks that a run learns, in order; a task cut in two is name.1 and name.2."""
    cut = len(study.tasks.cut) or study.runs[run].set.get("cut", 1)
    names = study.tasks.orders[order]
    return names if cut == 1 else [f"{name}.{part + 1}" for name in names for part in range(cut)]


def _stages(study: str, run: str, chained: bool, order: str, names: list[str], seed: int) -> dict[str, Item]:
    """One stage for the whole sequence, or a chain with one for each task."""
    name, home, method = f"{run}--{order}--s{seed}", f"data/{study}/runs", params.method_of(run)
    final = f"reports/results/{study}/{name}.json"
    features = f"data/{study}/features"
    if not chained:
        whole = Item(run, method, order, seed, 0, len(names), features, f"{home}/{name}", final)
        return {name: whole}
    chain: dict[str, Item] = {}
    parent = features
    for number, task in enumerate(names):
        key = f"{name}--{number}-{task}"
        last = number == len(names) - 1
        target = final if last else f"{home}/{key}.json"
        chain[key] = Item(run, method, order, seed, number, number + 1, parent, f"{home}/{key}", target)
        parent = f"{home}/{key}"
    return chain


def main_story(study: params.Study) -> list[str]:
    """The names of the stages of the first seed, in the first order, of every run that is part of the story."""
    return [
        key
        for key, item in items(study).items()
        if (run := study.runs[item.run]).story and (item.order, item.seed) == (main_order(study), run.seeds[0])
    ]


def final(study: params.Study, run: str) -> Item | None:
    """The stage that ends a run of the main order's first seed; None if the study has no such run."""
    mine = [i for i in items(study).values() if i.run == run and i.order == main_order(study)]
    return next((item for item in mine if item.result.startswith("reports")), None)


def studies() -> dict[str, Path]:
    """Every study by name, with the folder (relative to the root) that holds its params.yaml."""
    return {"mini": Path()} | {
        p.parent.name: p.parent.relative_to(ROOT) for p in sorted(ROOT.glob("studies/*/params.yaml"))
    }


def folder_of(name: str) -> Path:
    """The folder of a study. Raises ParamsError, naming the studies there are, if it is unknown."""
    known = studies()
    if name not in known:
        raise params.ParamsError(f"there is no study {name!r}; there are: {', '.join(known)}")
    return known[name]


def files(folder: Path) -> dict[Path, str]:
    """What plan.yaml, and outside the root dvc.yaml, of a study's folder must hold."""
    study = params.load(folder / "params.yaml")
    if folder.parts and study.study != folder.name:  # else it would write over another study's files
        raise params.ParamsError(
            f"{folder}/params.yaml: study is {study.study!r}; it must be its folder's name, {folder.name!r}"
        )
    up = "/".join([".."] * len(folder.parts)) or "."
    head = "# made by `python -m lib.study.plan` from params.yaml: do not edit\n"
    page = f"reports/{study.study}/index.html" if folder.parts else "reports/index.html"
    method = final(study, "moe_adapters")  # whose experts the notebook of ablations asks
    checkpoint = method.checkpoint if method else f"data/{study.study}/features"
    local = [place for place in (study.backbone.pretrained, study.backbone.model) if (ROOT / place).exists() and place]
    content = {"root": up, "file": str(folder / "params.yaml"), "page": page, "method": checkpoint}
    content["weights"] = local[0] if local else "data/catalogue"  # a CLIP that is known by name is no file
    plan = content | {"learn": {key: asdict(item) for key, item in items(study).items()}}
    wanted = {ROOT / folder / "plan.yaml": head + yaml.safe_dump(plan, sort_keys=False)}
    if folder.parts:
        wanted[ROOT / folder / "dvc.yaml"] = (ROOT / "dvc.yaml").read_text()
    return wanted


def write() -> list[str]:
    """Brings the plans of all studies in step; returns the files that were not."""
    stale = out_of_step()
    for path, text in stale.items():
        path.write_text(text)
    return [str(path.relative_to(ROOT)) for path in stale]


def out_of_step() -> dict[Path, str]:
    """The plan files that are missing or not what the params say, with what they should hold."""
    wanted = {path: text for folder in studies().values() for path, text in files(folder).items()}
    return {p: text for p, text in wanted.items() if not p.exists() or p.read_bytes() != text.encode()}


def main(arguments: list[str]) -> str | int:
    """The command line; returns an exit status, or what is wrong."""
    if "--check" in arguments:
        stale = ", ".join(str(path.relative_to(ROOT)) for path in out_of_step())
        return f"out of step with the params: {stale}; run `python -m lib.study.plan`" if stale else 0
    print("\n".join(f"written: {path}" for path in write()) or "all plans are in step")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

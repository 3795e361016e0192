"""Writes full studies in miniature into a clone of the project: `python tests/miniature_study.py [FOLDER]` there.

The data sets are miniatures in their published form, the catalogue's counts are theirs, the backbone is the tiny CLIP
and a task takes a few steps; all else is as in the studies mtil and cil_cifar100_10. `make study STUDY=miniature_mtil`
then goes from the stage `data` to the report. miniature_laptop has a backbone of its real shape with random weights,
which `python -m tests.support.hub_server` serves, as the hub would, to HF_ENDPOINT=http://127.0.0.1:8765. With a FOLDER
of pictures (<task>/{train,test}/<class>/*.png or .jpg) a further study, miniature_folders, is mtil with these tasks in
the place of its data sets. Never to be run where real results are: it changes data/catalogue.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from lib.study import studies
from lib.study.studies import ROOT
from tests.support import miniatures
from tests.support.hub_server import HUB_FOLDER, random_clip
from tools.datasets.catalogue import CATALOGUE
from tools.datasets.formats import SPLITS
from tools.datasets.splits import open_split

SETS = ("mnist", "dtd", "pets", "cifar100")
FEWER = ("zero_shot", "finetune", "zscl", "rail_primal", "moe_adapters")
SHORT = {"steps": 4, "warmup": 1, "batch": 8}


def small(study: str, name: str, tasks: dict[str, Any], reference: str | None) -> None:
    """A study's params under another name, with the tiny CLIP, few runs and few steps."""
    raw = studies.read(studies.file_of(study))
    raw |= {"study": name, "backbone": {"model": "data/backbone", "pretrained": ""}}
    raw["tasks"] |= tasks
    raw["reference"] = raw["reference"] | {"name": reference, "pictures": 16} if reference else None
    raw["train"] |= SHORT if raw["train"]["steps"] else {"batch": 8, "warmup": 1}
    raw["selector"] |= {"steps": 10, "batch": 8}
    raw["methods"]["zscl"] |= {"average_every": 2, "reference_batch": 8}
    raw["methods"]["rail_primal"]["width"] = 64
    raw["runs"] = {
        run: raw["runs"][run] | {"orders": ["I"], "story": True} for run in FEWER if reference or run != "zscl"
    }
    (ROOT / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def laptop() -> None:
    """The study laptop with three small data sets on one thread a run; and what the hub serves for it."""
    raw = studies.read(studies.file_of("laptop"))
    raw |= {"study": "miniature_laptop"}
    raw["tasks"] |= {"orders": {"I": ["dtd", "mnist", "pets"]}, "train_per_class": 2, "test_per_class": 1}
    raw["compute"]["threads"] = 1
    raw["train"] |= {"steps": 2, "warmup": 0, "batch": 4}
    raw["selector"] |= {"steps": 10, "batch": 8}
    for run in raw["runs"].values():
        run |= {"seeds": [0], "orders": ["I"]}
    (ROOT / "studies" / "miniature_laptop.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    random_clip(HUB_FOLDER / "model")


def main(folder: Path | None) -> None:
    """Writes pictures, counts and params."""
    raw = ROOT / "data" / "raw"
    for name in SETS:
        miniatures.write(name, raw)
        train, test = (len(open_split(name, raw, part)) for part in SPLITS)
        file = Path(CATALOGUE / f"{name}.yaml")
        facts = yaml.safe_load(file.read_text()) | {"train": train, "test": test}
        file.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))
    small("mtil", "miniature_mtil", {"orders": {"I": ["mnist", "dtd", "pets"]}}, "cifar100")
    order = {"orders": {"I": ["cifar100"]}, "class_order": list(reversed(range(100))), "cut": [50, 30, 20]}
    small("cil_cifar100_10", "miniature_cil", order, "dtd")
    laptop()
    if folder:
        names = sorted(p.name for p in folder.iterdir() if (p / "train").is_dir())
        pictures = {"source": "folder", "root": str(folder), "train_per_class": 10, "test_per_class": 5}
        tasks = pictures | {"templates": ["a photo of a {}."], "orders": {"I": names}}
        small("mtil", "miniature_folders", tasks, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else None)

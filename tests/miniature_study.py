"""Writes full studies in miniature into a clone of the project: `python tests/miniature_study.py [FOLDER]` there.

The data sets are miniatures in their published form, the catalogue's counts are theirs, the backbone is the tiny CLIP
and a task takes a few steps; all else is as in the studies mtil and cil_cifar100_10. `make study STUDY=miniature_mtil`
then goes from the stage `data` to the report. With a FOLDER of pictures (<task>/{train,test}/<class>/*.png or .jpg) a
third study, miniature_folders, is mtil with these tasks in the place of its data sets. Never to be run where real
results are: it changes data/catalogue.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from lib.study import studies
from lib.study.studies import ROOT
from tests.support import miniatures
from tools.datasets.catalogue import CATALOGUE

COUNTS = {"mnist": (20, 10), "dtd": (94, 47), "pets": (74, 37), "cifar100": (200, 100)}
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


def main(folder: Path | None) -> None:
    """Writes pictures, counts and params."""
    for name, (train, test) in COUNTS.items():
        miniatures.write(name, ROOT / "data" / "raw")
        file = Path(CATALOGUE / f"{name}.yaml")
        facts = yaml.safe_load(file.read_text()) | {"train": train, "test": test}
        file.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))
    small("mtil", "miniature_mtil", {"orders": {"I": ["mnist", "dtd", "pets"]}}, "cifar100")
    order = {"orders": {"I": ["cifar100"]}, "class_order": list(reversed(range(100))), "cut": [50, 30, 20]}
    small("cil_cifar100_10", "miniature_cil", order, "dtd")
    if folder:
        names = sorted(p.name for p in folder.iterdir() if (p / "train").is_dir())
        pictures = {"source": "folder", "root": str(folder), "train_per_class": 10, "test_per_class": 5}
        tasks = pictures | {"templates": ["a photo of a {}."], "orders": {"I": names}}
        small("mtil", "miniature_folders", tasks, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else None)

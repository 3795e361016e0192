"""The study `folder` with the committed backbone on photographs of many sizes, from their folders to the result."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lib.study import params, plan, studies
from lib.study.opened import OpenStudy
from lib.study.studies import ROOT

REAL = ROOT.parent / "shared" / "realdata"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real pictures beside the project (../shared/realdata)")
def test_real_pictures_from_folder_to_result(tmp_path: Path) -> None:
    for name in ("dtd10", "sun8"):
        with tarfile.open(REAL / f"{name}.tar") as archive:
            archive.extractall(tmp_path / "data" / "pictures", filter="data")
    (tmp_path / "data" / "backbone").symlink_to(ROOT / "data" / "backbone")
    raw = params.with_orders(studies.read(studies.file_of("folder")), "folder", tmp_path)
    given = params.parse(raw, "folder")
    few = replace(given.tasks, train_per_class=8, test_per_class=4)
    train, selector = replace(given.train, steps=5, batch=8), replace(given.selector, steps=20, batch=16)
    study = replace(given, tasks=few, train=train, selector=selector)
    opened = OpenStudy(study, tmp_path)
    assert [(task.name, len(task.classes)) for task in opened.tasks] == [("dtd10", 10), ("sun8", 8)]
    assert [task.train.images.shape for task in opened.tasks] == [(80, 3, 32, 32), (64, 3, 32, 32)]
    content = [opened.learn(key) for key in plan.items(study) if key.startswith("moe_adapters--")][-1]
    assert [len(row) for row in content["accuracy"]["union_sample"]] == [2, 2]
    assert sum(map(sum, content["routed"]["sample"][-1])) == 40 + 32

"""The folder study on real pictures with the mini backbone, from the folders to the result."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lib.study import params, plan, studies
from lib.study.opened import OpenStudy
from lib.study.paths import ROOT

REAL = ROOT.parent / "shared" / "realdata"
SETS = ["dtd10", "mnist", "sun8"]
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no real pictures beside the project (../shared/realdata)")


def unpack(name: str, target: Path, most: dict[str, int]) -> None:
    """The first pictures of every class of a set."""
    taken: dict[str, int] = {}
    with tarfile.open(REAL / f"{name}.tar") as archive:
        for member in archive:
            if not member.isfile():
                continue
            folder, split = str(Path(member.name).parent), Path(member.name).parts[1]
            taken[folder] = taken.get(folder, 0) + 1
            if taken[folder] <= most[split]:
                archive.extract(member, target, filter="data")


def test_real_pictures_from_folder_to_result(tmp_path: Path) -> None:
    for name in SETS:
        unpack(name, tmp_path / "data" / "pictures", {"train": 8, "test": 4})
    (tmp_path / "data" / "backbone").symlink_to(ROOT / "data" / "backbone")
    given = params.parse(params.with_orders(studies.read(studies.file_of("folder")), "folder", tmp_path), "folder")
    study = replace(
        given,
        train=replace(given.train, steps=5, batch=8),
        selector=replace(given.selector, steps=20, batch=16),
    )
    opened = OpenStudy(study, tmp_path)
    assert [len(t.classes) for t in opened.tasks] == [10, 10, 8]
    assert [len(t.train) for t in opened.tasks] == [80, 80, 64]
    assert [len(t.test) for t in opened.tasks] == [40, 40, 32]
    assert all(t.train.images.shape[1:] == (3, 48, 48) for t in opened.tasks)
    keys = [key for key in plan.items(study) if key.startswith("moe_adapters--")]
    content = [opened.learn(key) for key in keys][-1]
    assert content["tasks"] == SETS
    assert all(len(row) == 3 for row in content["accuracy"]["sample"])
    assert sum(map(sum, content["routed"]["sample"][-1])) == 112
    assert (tmp_path / "reports" / "results" / "folder" / "moe_adapters--I--s0.json").exists()

"""The folder study on real pictures, with the mini backbone, from pictures on disk to the result."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lib.data import frozen as features
from lib.data import tasks
from lib.study import params
from lib.study import stage as learn
from lib.study.paths import ROOT

REAL = ROOT.parent / "shared" / "realdata"
SETS = ["mnist", "dtd10", "sun8"]
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


def test_real_pictures_from_folder_to_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETS:
        unpack(name, tmp_path / "pictures", {"train": 8, "test": 4})
    for module in (tasks, features, learn):
        monkeypatch.setattr(module, "DATA", tmp_path / "data")
    monkeypatch.setattr(learn, "REPORTS", tmp_path / "reports")
    given = params.load("studies/folder/params.yaml")
    raw = {
        "tasks": replace(given.tasks, root=str(tmp_path / "pictures")),
        "train": replace(given.train, steps=5, batch=8),
        "selector": replace(given.selector, steps=20, batch=16),
    }
    study = replace(given, **raw)
    made = tasks.prepare(study)
    assert [len(t.classes) for t in made] == [10, 10, 8]
    assert [len(t.train) for t in made] == [80, 80, 64]
    assert [len(t.test) for t in made] == [40, 40, 32]
    assert all(t.train.images.shape[1:] == (3, 48, 48) for t in made)
    features.ensure(study, lambda: learn.load_clip(study.backbone.model, ""), made)
    monkeypatch.setattr(learn, "ROOT", tmp_path)
    monkeypatch.setattr(learn, "load_clip", lambda model, _: learn_clip(model))
    keys = [key for key in learn.items(study) if key.startswith("moe_adapters--")]
    content = [learn.learn(study, key) for key in keys][-1]
    assert content["tasks"] == SETS
    assert all(len(row) == 3 for row in content["accuracy"]["sample"])
    assert sum(map(sum, content["routed"]["sample"][-1])) == 112
    assert (tmp_path / "reports" / "results" / "folder" / "moe_adapters--I--s0.json").exists()


def learn_clip(model: str) -> object:
    from lib.clip import load_clip

    return load_clip(model)

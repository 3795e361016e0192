"""The stage `data`: what is complete is left alone, the rest is fetched, what must be placed by hand is said first."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lib.study import params
from tests.support import miniatures, small_study
from tools.datasets import fetch, splits
from tools.datasets.catalogue import DataError, Entry, File, catalogue

COUNTS = {"dtd": (94, 47), "mnist": (20, 10), "eurosat": (24, 6)}  # of the miniatures


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own; archives beside its data are what the web has."""

    def download(url: str, target: Path, checksum: str) -> None:
        shutil.copyfile(tmp_path / target.name, target)

    miniatures.allow(monkeypatch)
    monkeypatch.setattr(fetch, "load_clip", lambda model, pretrained, root: small_study.backbone())
    monkeypatch.setattr(fetch, "download", download)
    facts(monkeypatch, {})
    (tmp_path / "raw" / "downloads").mkdir(parents=True)
    return tmp_path


def facts(monkeypatch: pytest.MonkeyPatch, files: dict[str, list[File]]) -> None:
    """Lets the catalogue say the miniatures' counts, and that these files can be downloaded."""

    def small(name: str) -> Entry:
        train, test = COUNTS[name]
        return replace(catalogue(name), train=train, test=test, files=files.get(name, []))

    for module in (splits, fetch):
        monkeypatch.setattr(module, "catalogue", small)


def study_of(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    raw = {"tasks.source": "datasets", "tasks.root": "raw", "tasks.orders": {"I": names}}
    monkeypatch.setattr(params, "load", lambda file: small_study.study(raw))


def served_tar(home: Path, members: dict[str, Path], name: str, inner: str | None = None) -> File:
    """A tar of these members that can be downloaded, as the catalogue lists it."""
    with tarfile.open(home / name, "w:gz") as tar:
        for inside, path in members.items():
            tar.add(path, inside)
    return File(f"https://example.org/{name}", "md5:" + 32 * "0", ".", "tar", inner)


def test_what_is_missing_is_fetched_unpacked_and_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.write("dtd", home / "made")
    made = home / "made" / "dtd" / "dtd"
    served_tar(home, {"dtd/dtd/labels": made / "labels"}, "labels.tgz")
    files = [
        served_tar(home, {"dtd/dtd/images": made / "images"}, "images.tgz"),
        served_tar(home, {"deep/a.tgz": home / "labels.tgz"}, "outer.tgz", "deep/a.tgz"),
    ]
    facts(monkeypatch, {"dtd": files})
    study_of(monkeypatch, ["dtd"])
    assert fetch.main("params.yaml", home) == 0
    assert splits.open_split("dtd", home / "raw", "test").labels == list(range(47))
    assert not list((home / "raw" / "downloads").iterdir())  # nothing else is kept
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("fetched again"))
    assert fetch.main("params.yaml", home) == 0
    held = json.loads((home / "data" / "tiny" / "data.json").read_text())
    assert held == {"source": "datasets", "datasets": {"dtd": {"classes": 47, "train": 94, "test": 47}}}


def test_files_that_are_replaced_are_the_only_ones_that_change(home: Path) -> None:
    for place in ("new/a/one", "new/two", "raw/a/one", "raw/a/three"):
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text(place)
    file = served_tar(home, {"a": home / "new" / "a", "two": home / "new" / "two"}, "x.tgz")
    fetch.unpack_into(home / "raw", home / "x.tgz", file)
    texts = {str(f.relative_to(home / "raw")): f.read_text() for f in (home / "raw").rglob("*") if f.is_file()}
    assert texts == {"a/one": "new/a/one", "a/three": "raw/a/three", "two": "new/two"}


def test_what_is_not_as_published_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.write("dtd", home / "made")
    next((home / "made" / "dtd" / "dtd" / "images").rglob("*.jpg")).unlink()
    facts(monkeypatch, {"dtd": [served_tar(home, {"dtd": home / "made" / "dtd"}, "dtd.tar.gz")]})
    with pytest.raises(DataError, match=r"dtd below .*raw: .* lacks 1 files"):
        fetch.fetch("dtd", home / "raw")
    shutil.rmtree(home / "raw" / "dtd")
    (home / "link").symlink_to("/etc/passwd")
    served_tar(home, {"dtd/link": home / "link"}, "dtd.tar.gz")
    (home / "raw" / "downloads" / "dtd.tar.gz").unlink()
    with pytest.raises(DataError, match="symbolic link"):
        fetch.fetch("dtd", home / "raw")
    assert [f.name for f in (home / "raw").rglob("*") if f.is_file()] == ["dtd.tar.gz"]


def test_all_that_must_be_placed_by_hand_is_said_before_the_first_download(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts(monkeypatch, {"mnist": [File("https://example.org/mnist.tgz", "md5:" + 32 * "0", ".", "tar")]})
    said: list[str] = []

    def offline(*_: object) -> None:
        said.append(capsys.readouterr().err)
        raise DataError("no connection")

    monkeypatch.setattr(fetch, "download", offline)
    study_of(monkeypatch, ["mnist", "eurosat", "dtd"])
    assert fetch.main("params.yaml", home) == 1
    for place in ("eurosat/2750", "dtd/dtd/labels/train1.txt", "by hand: "):
        assert place in said[0]
    assert "not complete: eurosat, dtd, mnist" in capsys.readouterr().err
    assert not (home / "data" / "tiny" / "data.json").exists()


def test_a_study_without_data_sets_needs_only_its_clip(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object) -> None:
        raise ConnectionError("the weights 'openai' could not be fetched")

    monkeypatch.setattr(params, "load", lambda file: small_study.study())
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "load_clip", offline)
        assert fetch.main("params.yaml", home) == 1
    assert "error: the weights 'openai'" in capsys.readouterr().err
    assert not (home / "data").exists()
    assert fetch.main("params.yaml", home) == 0
    noted = json.loads((home / "data" / "tiny" / "backbone.json").read_text())
    assert noted == {"model": "tiny", "fingerprint": small_study.backbone().fingerprint}
    held = json.loads((home / "data" / "tiny" / "data.json").read_text())
    assert held == {"source": "folder", "datasets": {}}


def test_the_data_set_of_the_reference_set_is_wanted_as_well() -> None:
    reference = {"source": "datasets", "root": "elsewhere", "name": "tinyimagenet", "pictures": 9, "seed": 0}
    raw = {"tasks.source": "datasets", "tasks.root": "raw", "tasks.orders": {"I": ["dtd"]}, "reference": reference}
    assert fetch.wanted_by(small_study.study(raw)) == {"dtd": "raw", "tinyimagenet": "elsewhere"}

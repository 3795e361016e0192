"""The stage `data`: what is whole is left alone, what is not is fetched, what cannot be is said all at once."""

import functools
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lib.study import params
from tests.support import miniatures, small_study
from tools.datasets import catalogue as datasets
from tools.datasets import obtain
from tools.datasets.catalogue import DataError, Entry, File

COUNTS = {"dtd": (94, 47), "mnist": (20, 10), "eurosat": (24, 6)}  # of the miniatures


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    miniatures.allow(monkeypatch)
    for name in ("ROOT", "DATA"):
        monkeypatch.setattr(obtain, name, tmp_path / ("data" if name == "DATA" else ""))
    monkeypatch.setattr(obtain, "load_clip", lambda model, pretrained: small_study.backbone())
    facts(monkeypatch, {})
    return tmp_path


def facts(monkeypatch: pytest.MonkeyPatch, files: dict[str, list[File]]) -> None:
    """The catalogue says the miniatures' counts, and that these files can be downloaded."""
    known = datasets.catalogue

    def small(name: str) -> Entry:
        train, test = COUNTS[name]
        return replace(known(name), train=train, test=test, files=files.get(name, []))

    for module in (datasets, obtain):
        monkeypatch.setattr(module, "catalogue", small)


def study(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    raw = {"tasks.source": "datasets", "tasks.root": "raw", "tasks.orders": {"I": names}}
    monkeypatch.setattr(params, "load", lambda file: small_study.study(raw))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a loopback server serves, and its address."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def packed(web: tuple[Path, str], source: Path, inside: str, name: str) -> File:
    """A tar of a folder, as the catalogue would list it."""
    archive = web[0] / name
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / inside, inside)
    checksum = f"md5:{md5(archive.read_bytes()).hexdigest()}"
    return File(f"{web[1]}/{name}", checksum, ".", "tar")


def test_what_is_whole_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.write("mnist", home / "raw")
    monkeypatch.setattr(obtain, "fetch", lambda *_, **__: pytest.fail("fetched again"))
    study(monkeypatch, ["mnist"])
    assert obtain.main("params.yaml") == 0
    held = json.loads((home / "data" / "tiny" / "data.json").read_text())
    assert held == {"source": "datasets", "datasets": {"mnist": {"classes": 10, "train": 20, "test": 10}}}


def test_what_is_missing_is_fetched_unpacked_and_checked(
    home: Path, web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    miniatures.write("dtd", home / "made")
    facts(monkeypatch, {"dtd": [packed(web, home / "made", "dtd", "dtd-r1.0.1.tar.gz")]})
    study(monkeypatch, ["dtd"])
    assert obtain.main("params.yaml") == 0
    assert datasets.open_split("dtd", home / "raw", "test").labels == list(range(47))
    assert not list((home / "raw" / "downloads").iterdir())  # an archive goes when its data set is whole
    assert obtain.main("params.yaml") == 0


def test_two_archives_are_joined_in_one_folder(
    home: Path, web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    miniatures.write("dtd", home / "made")
    parts = [packed(web, home / "made", f"dtd/dtd/{part}", f"{part}.tar.gz") for part in ("images", "labels")]
    facts(monkeypatch, {"dtd": parts})
    obtain.obtain("dtd", home / "raw")
    assert len(datasets.open_split("dtd", home / "raw", "train")) == 94


def test_a_download_with_fewer_pictures_than_published_is_refused(
    home: Path, web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    miniatures.write("dtd", home / "made")
    next((home / "made" / "dtd" / "dtd" / "images").rglob("*.jpg")).unlink()
    facts(monkeypatch, {"dtd": [packed(web, home / "made", "dtd", "dtd.tar.gz")]})
    with pytest.raises(DataError, match=r"dtd below .*raw: .* lacks 1 files"):
        obtain.obtain("dtd", home / "raw")


def test_all_that_is_to_be_placed_by_hand_is_said_at_once_and_the_rest_is_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    miniatures.write("mnist", home / "raw")
    study(monkeypatch, ["eurosat", "mnist", "dtd"])
    assert obtain.main("params.yaml") == 1
    said = capsys.readouterr().err
    assert "error: eurosat: eurosat/2750 is missing below" in said
    assert "by hand:" in said
    assert "error: dtd: dtd/dtd/labels/train1.txt is missing below" in said
    assert "2 data sets are not whole; the rest is there" in said
    assert not (home / "data" / "tiny" / "data.json").exists()


def test_a_study_without_data_sets_needs_its_clip_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "load", lambda file: small_study.study())
    assert obtain.main("params.yaml") == 0
    noted = json.loads((home / "data" / "tiny" / "backbone.json").read_text())
    assert noted == {"model": "tiny", "fingerprint": small_study.backbone().fingerprint}
    held = json.loads((home / "data" / "tiny" / "data.json").read_text())
    assert held == {"source": "folder", "datasets": {}}


def test_joining_moves_into_folders_that_are_there_and_replaces_files(tmp_path: Path) -> None:
    for place, text in (
        ("new/a/one", "new"),
        ("new/two", "new"),
        ("old/a/one", "old"),
        ("old/a/three", "old"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    obtain.join(tmp_path / "new", tmp_path / "old")
    found = {str(f.relative_to(tmp_path / "old")): f.read_text() for f in (tmp_path / "old").rglob("*") if f.is_file()}
    assert found == {"a/one": "new", "a/three": "old", "two": "new"}


def test_the_reference_sets_data_are_wanted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = {"source": "datasets", "root": "elsewhere", "name": "tinyimagenet", "pictures": 9, "seed": 0}
    raw = {
        "tasks.source": "datasets",
        "tasks.root": "raw",
        "tasks.orders": {"I": ["dtd"]},
        "reference": reference,
    }
    assert obtain._wanted(small_study.study(raw)) == {"dtd": "raw", "tinyimagenet": "elsewhere"}


def test_a_clip_that_cannot_be_had_ends_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(model: str, pretrained: str) -> None:
        raise ConnectionError("the weights 'openai' could not be fetched; without a network, give a file")

    monkeypatch.setattr(obtain, "load_clip", offline)
    monkeypatch.setattr(params, "load", lambda file: small_study.study())
    assert obtain.main("params.yaml") == 1
    assert "error: the weights 'openai' could not be fetched" in capsys.readouterr().err
    assert not (home / "data" / "tiny" / "data.json").exists()

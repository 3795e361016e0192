"""What a study says before it begins: sizes by the catalogue, bytes by the servers, seconds counted by hand."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lib.study import params, studies
from tests.support import small_study
from tools.datasets.catalogue import File, catalogue
from tools.stages import estimate
from tools.stages.estimate import Size, Speed

LAPTOP = params.load(studies.file_of("laptop"))


def test_sizes_are_the_catalogues_cut_to_so_many_of_a_class() -> None:
    known = estimate.sizes(LAPTOP)
    assert known["mnist"] == Size(10, 160, 500)
    assert known["cifar100"] == Size(100, 1600, 500)
    assert known["flowers"] == Size(102, 1020, 510)  # ten pictures of a class, fewer than asked for


def test_sizes_of_folders_are_counted(tmp_path: Path) -> None:
    for split, each in (("train", (3, 5)), ("test", (1, 2))):
        for name, count in zip("ab", each, strict=True):
            folder = tmp_path / "hats" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").touch()
    raw = {"tasks.source": "folder", "tasks.root": ".", "tasks.orders": {"I": ["hats"]}, "tasks.train_per_class": 4}
    assert estimate.sizes(small_study.study(raw | {"tasks.test_per_class": 0}), tmp_path)["hats"] == Size(2, 7, 3)


def test_seconds_by_hand() -> None:
    known = dict.fromkeys(LAPTOP.tasks.orders["I"], Size(10, 100, 50))
    speeds = {"finetune": Speed(2.0, 5.0, 0.1), "zero_shot": Speed(0, 0, 0)}
    # seven tasks: 200 steps of 2 s, 5 s, and 350 test pictures of 0.1 s after each
    assert estimate.seconds(LAPTOP, ["finetune--I--s0"], speeds, known) == pytest.approx(7 * (400 + 5 + 35))
    assert estimate.seconds(LAPTOP, ["zero_shot--I--s0"], speeds, known) == 0
    epochs = replace(LAPTOP.train, epochs=3, batch=30)
    special = {"shots": 0, "steps": 0}
    assert estimate.steps_of(epochs, Size(10, 100, 50), special) == 9
    assert estimate.steps_of(epochs, Size(10, 100, 50), special | {"shots": 16}) == 15
    assert estimate.steps_of(LAPTOP.train, Size(10, 100, 50), special | {"steps": 7}) == 7


@pytest.mark.parametrize("name", sorted(set(small_study.RAW["methods"]) - {"joint"}))  # it learns all tasks at once
def test_every_method_can_be_measured(tmp_path: Path, name: str) -> None:
    study = small_study.study({"runs": {name: {"seeds": [0], "set": {}}}})
    measured = estimate.speed(small_study.open_at(tmp_path, study), name, 5)
    assert min(measured.step, measured.rest) >= 0
    assert measured.picture > 0


class Heads(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404 if "gone" in self.path else 200)
        if "silent" not in self.path:
            self.send_header("Content-Length", self.path.rpartition("-")[2])
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Heads)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_is_missing_is_asked_for_by_size(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"mnist": ["a-1000", "b-500"], "dtd": ["silent"], "pets": ["gone-9"]}

    def served(name: str) -> Any:
        files = [File(f"{address}/{url}", "md5:" + 32 * "0", ".", "tar") for url in urls.get(name, [])]
        return replace(catalogue(name), files=files)

    monkeypatch.setattr(estimate, "catalogue", served)
    orders = {"orders": {"I": ["mnist", "dtd", "pets", "eurosat"]}, "train_per_class": 0, "test_per_class": 0}
    study = replace(LAPTOP, tasks=replace(LAPTOP.tasks, **orders))
    for need in catalogue("eurosat").needs:
        (tmp_path / study.tasks.root / catalogue("eurosat").folder / need).mkdir(parents=True)
    gone = estimate.missing(study, tmp_path)
    assert gone == {"mnist": 1500, "dtd": None, "pets": None}
    assert "mnist 0 MB, dtd (size unknown)" in estimate.in_words(gone)
    assert estimate.in_words({}) == "all data sets are there"

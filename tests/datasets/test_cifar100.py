"""CIFAR-100 without unpickling: the published form is read, and a file that would run something is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.support import miniatures
from tools.datasets.catalogue import DataError
from tools.datasets.splits import open_split

FOLDER = "cifar-100-python"


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    miniatures.write("cifar100", tmp_path)
    return tmp_path


def pickled(data: bytes) -> bytes:
    """A split of three pictures whose `data` is given as opcodes."""
    labels = miniatures.python2("fine_labels") + miniatures.python2([0, 1, 2])
    return b"\x80\x02}(" + labels + miniatures.python2("data") + data + b"u."


@pytest.mark.parametrize("file", ["train", "meta"])
def test_a_malicious_pickle_is_refused_before_it_runs_anything(root: Path, file: str) -> None:
    trace = root / "trace"
    harmful = pickle.dumps(Harmful(trace), 2)
    pickle.loads(harmful)  # it does harm
    trace.rmdir()
    (root / FOLDER / file).write_bytes(harmful)
    with pytest.raises(DataError, match=f"{FOLDER}/{file} .*mkdir"):
        open_split("cifar100", root, "train")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("opcodes", "name"),
    [
        (b"cos\nsystem\n(U\x04trueltR", "os.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"cnumpy\nload\n", "numpy.load"),
        (b"cnumpy.core.multiarray\nscalar\n", "numpy.core.multiarray.scalar"),
        (b"c_codecs\nencode\n", "_codecs.encode"),
    ],
)
def test_only_what_makes_an_array_may_be_named(root: Path, opcodes: bytes, name: str) -> None:
    (root / FOLDER / "test").write_bytes(pickled(opcodes))
    with pytest.raises(DataError, match=name):
        open_split("cifar100", root, "test")


def test_a_file_cannot_change_what_stands_in_for_numpy(root: Path) -> None:
    twisted = b"cnumpy\nndarray\n}(" + miniatures.python2("pixels") + miniatures.python2("mine") + b"ub"
    (root / FOLDER / "test").write_bytes(pickled(twisted))
    with pytest.raises(DataError, match=f"{FOLDER}/test"):
        open_split("cifar100", root, "test")
    assert len(open_split("cifar100", root, "train")) == 200


def test_pictures_are_bytes_of_the_right_number(root: Path) -> None:
    three = miniatures.python2(np.zeros((3, 3072), np.uint8))
    (root / FOLDER / "test").write_bytes(pickled(three))
    assert open_split("cifar100", root, "test").labels == [0, 1, 2]
    for data in (three.replace(b"U\x02u1", b"U\x02O8"), three[:-9] + b"tb"):
        (root / FOLDER / "test").write_bytes(pickled(data))
        with pytest.raises(DataError, match="cifar100"):
            open_split("cifar100", root, "test")


def test_a_torn_file_is_named_and_how_to_get_it_again(root: Path) -> None:
    file = root / FOLDER / "train"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{file} .*https://www.cs.toronto.edu"):
        open_split("cifar100", root, "train")

"""CIFAR-100 without unpickling: the published form is read, and a file that would run something is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import miniatures
from tools.datasets.catalogue import DataError
from tools.datasets.splits import open_split

FOLDER = "cifar-100-python"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    miniatures.write("cifar100", tmp_path)
    return tmp_path


def pickled(data: bytes) -> bytes:
    """A split of three pictures whose `data` is given as opcodes."""
    labels = miniatures.python2("fine_labels") + miniatures.python2([0, 1, 2])
    return b"\x80\x02}(" + labels + miniatures.python2("data") + data + b"u."


THREE = miniatures.python2(np.zeros((3, 3072), np.uint8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"cos\nsystem\n(U\x04trueltR", "os.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"cnumpy\nload\n", "numpy.load"),
        (b"cnumpy.core.multiarray\nscalar\n", "numpy.core.multiarray.scalar"),
        (b"c_codecs\nencode\n", "_codecs.encode"),
        (b"cnumpy\nndarray\n}(" + miniatures.python2("state") + miniatures.python2("mine") + b"ub", "cifar100"),
        (THREE.replace(b"U\x02u1", b"U\x02O8"), "'O8'"),
        (THREE[:-9] + b"tb", "cifar100"),
    ],
)
def test_only_what_makes_an_array_of_bytes_may_be_named(root: Path, data: bytes, words: str) -> None:
    (root / FOLDER / "test").write_bytes(pickled(THREE))
    assert open_split("cifar100", root, "test").labels == [0, 1, 2]
    (root / FOLDER / "test").write_bytes(pickled(data))
    with pytest.raises(DataError, match=words):
        open_split("cifar100", root, "test")

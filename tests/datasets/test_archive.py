"""Unpacking: what is right comes out whole; what is wrong is refused and writes nothing outside of its folder."""

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tools.datasets import archive
from tools.datasets.archive import unpack
from tools.datasets.catalogue import DataError

FILES = {"a.txt": b"first", "set/train/b.bin": bytes(range(256)) * 300, "set/c.txt": b""}


def tarred(name: str, content: bytes = b"", /, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in changes.items():
        setattr(member, key, value)
    return member, content


def zipped(name: str, content: bytes = b"", kind: int = stat.S_IFREG) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = (kind | 0o644) << 16
    return member, content


def packed_as(file: Path, *members: tuple[Any, bytes]) -> Path:
    """An archive with these members, of the kind that its name says."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            for member, content in members:
                made.writestr(member, content)
    else:
        with tarfile.open(file, "w:" if file.suffix == ".tar" else "w:gz") as made:
            for member, content in members:
                made.addfile(member, io.BytesIO(content))
    return file


def form(file: Path) -> str:
    return file.suffix[1:].replace("tgz", "tar")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def is_refused(file: Path, word: str) -> bool:
    """Whether unpacking fails, naming the archive and the reason, with nothing outside of the folder."""
    folder = file.parent / "in" / "out"
    with pytest.raises(DataError, match=word) as caught:
        unpack(file, folder, form(file))
    outside = [p for p in file.parent.rglob("*") if p.is_file() and not p.is_relative_to(folder)]
    return str(file) in str(caught.value) and outside == [file]


@pytest.fixture(params=[".zip", ".tar", ".tgz"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive with FILES."""
    kind = zipped if request.param == ".zip" else tarred
    return packed_as(tmp_path / f"good{request.param}", *(kind(*item) for item in FILES.items()))


def test_every_kind_of_archive_comes_out_whole(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LIMIT", sum(map(len, FILES.values())))
    unpack(packed, packed.parent / "deep" / "out", form(packed))
    assert tree(packed.parent / "deep" / "out") == FILES


def test_a_file_that_is_no_archive_comes_out_too(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(gzip.compress(b"text"))
    unpack(tmp_path / "labels.gz", tmp_path / "gz", "gz")
    assert tree(tmp_path / "gz") == {"labels": b"text"}
    unpack(tmp_path / "labels.gz", tmp_path / "plain", "plain")
    assert tree(tmp_path / "plain") == {"labels.gz": (tmp_path / "labels.gz").read_bytes()}


def test_what_a_tar_may_hold_stays_inside_without_special_rights(tmp_path: Path) -> None:
    link = tarred("d/b", type=tarfile.LNKTYPE, linkname="a", mode=0o6777)
    file = packed_as(tmp_path / "x.tar", tarred("a", b"text", mode=0o6777), link, tarred("/absolute", b"1"))
    unpack(file, tmp_path / "out", "tar")
    assert tree(tmp_path / "out") == {"a": b"text", "d/b": b"text", "absolute": b"1"}
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "\\\\host\\evil"])
def test_a_zip_member_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    file = packed_as(tmp_path / "x.zip", zipped("fine", b"1"), zipped(name, b"2"))
    assert is_refused(file, "outside")
    assert tree(tmp_path) == {"x.zip": file.read_bytes()}  # not one member was written


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": "../evil"}, "outside"),
        ({"name": "a/../../evil"}, "outside"),
        ({"name": "../out2/evil"}, "outside"),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "'bad' is a symbolic link"),
        ({"type": tarfile.SYMTYPE, "linkname": "fine"}, "symbolic link"),  # even inside
        ({"type": tarfile.LNKTYPE, "linkname": "../x.tar"}, "outside"),
        ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "absolute|not found"),
        ({"type": tarfile.FIFOTYPE}, "special file"),
        ({"type": tarfile.CHRTYPE}, "special file"),
        ({"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}}, "declares"),
        ({"pax_headers": {"size": "-1024"}}, "declares|invalid"),
        ({"pax_headers": {"size": str(10**15)}}, f"more than {archive.LIMIT} bytes"),
    ],
)
def test_a_tar_member_that_is_no_plain_file_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    assert is_refused(packed_as(tmp_path / "x.tar", tarred("fine", b"1"), tarred("bad", **changes)), word)


def patched(file: Path, where: int, value: bytes) -> Path:
    """The zip with other bytes in its only entry of the central directory."""
    content = bytearray(file.read_bytes())
    start = content.rindex(b"PK\x01\x02") + where
    content[start : start + len(value)] = value
    file.write_bytes(content)
    return file


def test_a_zip_member_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO):
        file = packed_as(tmp_path / "x.zip", zipped("fine", b"1"), zipped("bad", b"../../evil", kind))
        assert is_refused(file, "'bad' .* link")
        shutil.rmtree(tmp_path / "in")
    assert is_refused(patched(packed_as(tmp_path / "x.zip", zipped("a", b"1")), 8, b"\x01"), "encrypted")


def test_a_bomb_is_not_written(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LIMIT", 2000)
    assert is_refused(packed, "more than 2000 bytes")
    packed.unlink()
    shutil.rmtree(tmp_path / "in")
    small = patched(packed_as(tmp_path / "a.zip", zipped("a", bytes(10**6))), 24, (1000).to_bytes(4, "little"))
    assert is_refused(small, "CRC")  # it declares little
    assert (tmp_path / "in" / "out" / "a").stat().st_size <= 1000
    small.unlink()
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(3 << 20))[:-4] + b"\x01\0\0\0")
    assert is_refused(tmp_path / "a.gz", "more than 2000 bytes")
    assert (tmp_path / "in" / "out" / "a").stat().st_size <= 2000


@pytest.mark.parametrize("share", [0, 0.5, 0.8])
def test_a_truncated_archive_is_damaged(packed: Path, share: float) -> None:
    content = packed.read_bytes()
    packed.write_bytes(content[: int(len(content) * share)])
    assert is_refused(packed, "damaged .*delete it")

"""Unpacking: what is right comes out whole, what is wrong leaves nothing behind, inside of its folder or outside."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tools.datasets import archive
from tools.datasets.archive import ArchiveError, gunzip, unpack

TARS = {".tar": "w:", ".tar.gz": "w:gz", ".tgz": "w:gz"}
FILES = {"a.txt": b"first", "set/train/b.bin": bytes(range(256)) * 300, "set/c.txt": b""}


def make_tar(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    ending = next(e for e in TARS if file.name.endswith(e))
    with tarfile.open(file, TARS[ending]) as made:  # type: ignore[call-overload]
        for member, content in members:
            made.addfile(member, io.BytesIO(content))
    return file


def entry(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in changes.items():
        setattr(member, key, value)
    return member, content


def make_zip(file: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for member, content in members:
            made.writestr(member, content)
    return file


def zipped(name: str, content: bytes = b"", kind: int = stat.S_IFREG) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = (kind | 0o644) << 16
    return member, content


def good(tmp_path: Path, ending: str) -> Path:
    """An archive with FILES."""
    file = tmp_path / f"good{ending}"
    if ending == ".zip":
        return make_zip(file, [zipped(*item) for item in FILES.items()])
    return make_tar(file, [entry("./", type=tarfile.DIRTYPE), *(entry(*item) for item in FILES.items())])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def refused(file: Path, message: str, limit: int = archive.LIMIT) -> bool:
    """Whether unpacking fails with a message that names the archive, and nothing but the archive is there then."""
    home = file.parent
    before = sorted(home.rglob("*"))
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(file, home / "in" / "out", limit)
    left = [path for path in sorted(home.rglob("*")) if path != home / "in"]
    return str(file) in str(caught.value) and left == before


@pytest.fixture(params=[".zip", *TARS])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return good(tmp_path, request.param)


def test_every_kind_comes_out_whole_and_once(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = packed.parent / "deep" / "out"
    unpack(packed, out)
    assert tree(out) == FILES
    assert f"{packed.name}: unpacked into {out}, " in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    (out / "mine.txt").write_text("added")
    unpack(packed, out)
    assert tree(out) == FILES | {"mine.txt": b"added"}
    assert f"{out} is there; delete it to unpack {packed.name} again" in capsys.readouterr().out


def test_a_hard_link_to_an_earlier_file_is_a_file_and_rights_are_the_usual_ones(tmp_path: Path) -> None:
    link = entry("d/b", type=tarfile.LNKTYPE, linkname="a", mode=0o6777)
    unpack(make_tar(tmp_path / "x.tar", [entry("a", b"text", mode=0o6777), link]), tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"text", "d/b": b"text"}
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o755


OUTSIDE = ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "a/.."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    tar = make_tar(tmp_path / "x.tgz", [entry("fine", b"1"), entry(name, b"2")])
    assert refused(tar, "its member '.*(evil|a/..)' would lie outside of its folder; unpack it by hand if")
    assert refused(make_zip(tmp_path / "x.zip", [zipped("fine", b"1"), zipped(name, b"2")]), "would lie outside")


SYM, LNK = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": SYM, "linkname": "/etc/passwd"}, r"member 'bad' is a symbolic link \(to /etc/passwd\)"),
        ({"type": SYM, "linkname": "../up"}, "is a symbolic link"),
        ({"type": SYM, "linkname": "fine"}, "is a symbolic link"),  # even inside
        ({"type": LNK, "linkname": "../x.tar"}, r"is a hard link to no file before it \(../x.tar\)"),
        ({"type": LNK, "linkname": "/etc/passwd"}, "is a hard link to no file"),
        ({"type": LNK, "linkname": "later"}, "is a hard link to no file"),
        ({"type": tarfile.FIFOTYPE}, "is a device"),
        ({"type": tarfile.CHRTYPE}, "is a device"),
        ({"type": tarfile.BLKTYPE}, "is a device"),
        ({"type": b"Q"}, "is a device, or of a kind that is not known"),
        ({"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}}, "the size that it declares"),
        ({"pax_headers": {"size": "-1024"}}, "the size that it declares"),
        ({"pax_headers": {"size": str(10**15)}}, "unpacks to more than 200000000000 bytes"),
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert refused(
        make_tar(tmp_path / "x.tar", [entry("fine", b"1"), entry("bad", **changes), entry("later")]), message
    )


@pytest.mark.parametrize(("kind", "word"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "device")])
def test_a_zip_with_a_link_or_a_device_is_refused(tmp_path: Path, kind: int, word: str) -> None:
    members = [zipped("fine", b"1"), zipped("bad", b"../../evil", kind)]
    assert refused(make_zip(tmp_path / "x.zip", members), f"member 'bad' is a {word}")


def patched(file: Path, where: int, value: bytes) -> Path:
    """The zip with other bytes in its only entry of the central directory."""
    content = bytearray(file.read_bytes())
    start = content.rindex(b"PK\x01\x02") + where
    content[start : start + len(value)] = value
    file.write_bytes(content)
    return file


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    assert refused(patched(make_zip(tmp_path / "x.zip", [zipped("a", b"1")]), 8, b"\x01"), "'a' is encrypted")


def test_a_bomb_is_refused_by_what_it_declares(packed: Path) -> None:
    total = sum(map(len, FILES.values()))
    assert refused(packed, f"is refused: it unpacks to more than {total - 1} bytes, the limit", total - 1)
    unpack(packed, packed.parent / "out", total)
    assert tree(packed.parent / "out") == FILES


def test_a_bomb_that_declares_little_is_not_written(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "x.zip", [zipped("a", bytes(10**6))])
    assert refused(patched(bomb, 24, (1000).to_bytes(4, "little")), "is damaged .*CRC", 2000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(bytes(3 << 20))[:-4] + b"\x01\0\0\0", "refused: it unpacks to more than 9000 bytes"),
        (gzip.compress(b"text")[:-3], "is damaged .*; delete it and fetch it again"),
        (b"<html>", "is damaged"),
    ],
)
def test_a_gz_that_is_not_right_leaves_no_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "y.gz").write_bytes(content)
    with pytest.raises(ArchiveError, match=f"{tmp_path}/y.gz .*{message}|{tmp_path}/y.gz is {message}"):
        gunzip(tmp_path / "y.gz", tmp_path / "y", 9000)
    assert tree(tmp_path) == {"y.gz": content}


def test_a_gz_of_one_file_comes_out_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, out = tmp_path / "t10k-labels-idx1-ubyte.gz", tmp_path / "deep" / "labels"
    packed.write_bytes(gzip.compress(FILES["set/train/b.bin"]))
    gunzip(packed, out)
    assert tree(out.parent) == {"labels": FILES["set/train/b.bin"]}
    gunzip(packed, out)
    assert f"{out} is there" in capsys.readouterr().out


def test_a_truncated_archive_is_damaged(packed: Path) -> None:
    content = packed.read_bytes()
    for cut in (0, 100, len(content) // 2, len(content) - (20000 if packed.suffix == ".tar" else 5)):
        packed.write_bytes(content[:cut])
        assert refused(packed, "is damaged .*; delete it and fetch it again")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    tar = good(tmp_path, ".tar")
    content = bytearray(tar.read_bytes())
    content[content.index(b"set/c.txt")] ^= 1
    tar.write_bytes(content)
    assert refused(tar, "is damaged .no member begins at byte")
    tar.unlink()
    packed = make_tar(tmp_path / "x.tgz", [entry("a", bytes(9))])
    content = bytearray(packed.read_bytes())
    content[-8] ^= 1  # the checksum
    packed.write_bytes(content)
    assert refused(packed, "is damaged .CRC check failed")


def test_an_interrupted_call_leaves_nothing_and_a_killed_one_does_not_matter(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, there = packed.parent / "out", []
    kind: Any = zipfile.ZipFile if packed.suffix == ".zip" else tarfile.TarFile
    real = kind._extract_member

    def extract(*given: Any, **named: Any) -> Any:
        there.append(tree(packed.parent))
        if len(there) == 3:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_extract_member", extract)
        with pytest.raises(KeyboardInterrupt):
            unpack(packed, out)
    assert there[-1]["out.partial/a.txt"] == b"first"
    assert list(packed.parent.iterdir()) == [packed]
    out.with_name("out.partial").mkdir()
    (out.with_name("out.partial") / "half.txt").touch()
    unpack(packed, out)
    assert tree(packed.parent) == {
        packed.name: packed.read_bytes(),
        **{f"out/{n}": b for n, b in FILES.items()},
    }


def test_other_kinds_and_folders_that_cannot_be_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "x.rar", "of no kind that can be unpacked here: .zip, .tar, .tar.gz, .tgz")
    assert refused(tmp_path / "x.zip", "cannot be unpacked into .*No such file")
    (tmp_path / "out").touch()
    with pytest.raises(ArchiveError, match=f"cannot be unpacked into {tmp_path}/out .*; mend that first"):
        unpack(good(tmp_path, ".zip"), tmp_path / "out")
    assert sorted(tree(tmp_path)) == ["good.zip", "out"]

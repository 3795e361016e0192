"""Unpacking what was fetched: every member is checked before the first is written, and nothing half unpacked stays.

Python's own filter (PEP 706) guards the writing of a tar. Links are what has been used to get around it, so that a
symbolic link is refused altogether, and a hard link may only name a file that stands before it in the archive.
"""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

LIMIT = 200 * 10**9  # bytes that an archive may unpack to: several times the largest data set of the studies
CHUNK = 1 << 20
KINDS = (".zip", ".tar", ".tar.gz", ".tgz")
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # a name that is no text, or has a zero byte
    NotImplementedError,  # a zip packed in a way that Python does not know
)
Member = tuple[str, int, str | None]  # name, bytes when unpacked, what is wrong with it


class ArchiveError(ValueError):
    """An archive that cannot or must not be unpacked; the message names it, and the member that is refused."""


def unpack(archive: Path, folder: Path, limit: int = LIMIT) -> None:
    """Unpacks a .zip, .tar, .tar.gz or .tgz into a new folder; a folder that holds something is left as it is.

    Raises ArchiveError, and leaves no folder, if a member would lie outside, is a symbolic link, a device or encrypted,
    if all together have more than `limit` bytes, if the archive is damaged, or if the folder cannot be written.
    """
    if not archive.name.lower().endswith(KINDS):
        raise ArchiveError(f"{archive} is of no kind that can be unpacked here: {', '.join(KINDS)}")
    if folder.is_dir() and any(folder.iterdir()):
        print(f"{folder} is there; delete it to unpack {archive.name} again", flush=True)
        return
    print(f"{archive.name}: checking and unpacking", flush=True)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed
    into = _unzip if archive.name.lower().endswith(".zip") else _untar
    try:
        with _explained(archive, folder):
            count, total = into(archive, partial, limit)
            partial.mkdir(parents=True, exist_ok=True)  # an archive may be empty
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{archive.name}: unpacked into {folder}, {count} members, {total / 1e6:.1f} MB", flush=True)


def gunzip(archive: Path, target: Path, limit: int = LIMIT) -> None:
    """Unpacks a .gz of one file, such as MNIST's, into the file `target`; one that is there is left as it is.

    Raises ArchiveError, and leaves no target, if it has more than `limit` bytes, is damaged, or cannot be written.
    """
    if target.exists():
        print(f"{target} is there; delete it to unpack {archive.name} again", flush=True)
        return
    partial = target.with_name(f"{target.name}.partial")
    written = 0
    try:
        with _explained(archive, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(archive) as packed, partial.open("wb") as file:
                while chunk := packed.read(CHUNK):
                    written += len(chunk)
                    _check_size(archive, written, limit)
                    file.write(chunk)
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{archive.name}: unpacked into {target}, {written / 1e6:.1f} MB", flush=True)


@contextmanager
def _explained(archive: Path, target: Path) -> Iterator[None]:
    """Turns what goes wrong inside into an ArchiveError."""
    try:
        yield
    except ArchiveError:
        raise
    except DAMAGE as error:
        raise ArchiveError(f"{archive} is damaged ({error}); delete it and fetch it again") from error
    except OSError as error:
        raise ArchiveError(f"{archive} cannot be unpacked into {target} ({error}); mend that first") from error


def _unzip(archive: Path, folder: Path, limit: int) -> tuple[int, int]:
    """Checks and unpacks; zipfile never writes more of a member than is declared. Returns members and bytes."""
    with zipfile.ZipFile(archive) as opened:
        size = _check(archive, _zip_members(opened), limit)
        opened.extractall(folder)
    return size


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for member in opened.infolist():
        fault = None
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where it was not packed on Unix
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a symbolic link" if kind == stat.S_IFLNK else "is a device"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        yield member.filename, member.file_size, fault


def _untar(archive: Path, folder: Path, limit: int) -> tuple[int, int]:
    """Checks and unpacks; tarfile writes what is declared or fails. Returns members and bytes."""
    packed = not archive.name.lower().endswith(".tar")
    with tarfile.open(archive, "r:gz" if packed else "r:") as opened:
        size = _check(archive, _tar_members(opened), limit)
        _check_end(opened, packed)
        opened.extractall(folder, filter="data")
    return size


def _check_end(opened: tarfile.TarFile, packed: bool) -> None:
    """That the archive ends where the last member was read; tarfile takes a damaged header for the end."""
    raw = opened.fileobj
    assert raw is not None
    if packed:
        while raw.read(CHUNK):  # at the very end gzip compares its checksum
            pass
        return
    raw.seek(opened.offset)
    if raw.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"no member begins at byte {opened.offset}")


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    files: set[str] = set()
    for member in opened:
        yield member.name, member.size, _tar_fault(member, files)
        if not member.isdir():
            files.add(member.name)


def _tar_fault(member: tarfile.TarInfo, before: set[str]) -> str | None:
    if member.issym():
        return f"is a symbolic link (to {member.linkname})"
    if member.islnk():
        known = member.linkname in before
        return None if known else f"is a hard link to no file before it ({member.linkname})"
    if not (member.isreg() or member.isdir()):
        return "is a device, or of a kind that is not known"
    if member.issparse() or member.size < 0:
        return "does not have the size that it declares"
    return None


def _check(archive: Path, members: Iterable[Member], limit: int) -> tuple[int, int]:
    """Raises ArchiveError at the first member that is refused; returns their number and bytes if none is."""
    count = total = 0
    for name, size, fault in members:
        path = PureWindowsPath(name)  # knows both slashes, and drives
        if path.anchor or ".." in path.parts:
            fault = "would lie outside of its folder"
        if fault:
            raise ArchiveError(
                f"{archive} is refused, and nothing of it unpacked: its member {name!r} {fault}; "
                "unpack it by hand if you trust it"
            )
        count, total = count + 1, total + size
        _check_size(archive, total, limit)
    return count, total


def _check_size(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise ArchiveError(
            f"{archive} is refused: it unpacks to more than {limit} bytes, the limit; unpack it by hand if you trust it"
        )

"""Unpacks archives without trusting them: nothing is written outside of the folder, and no more than a limit.

Python's data filter (PEP 706) guards tar files. Links have been used to get around it, so symbolic links are refused
altogether. torchvision's extract_archive has the filter too, but no limit, and no check of zip files.
"""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from lib.files import not_taken
from tools.datasets.catalogue import DataError

LIMIT = 200 * 10**9  # bytes that an archive may unpack to: several times the largest data set of the studies
CHUNK = 1 << 20
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # a name that is no text, or has a zero byte
    RuntimeError,  # an encrypted zip, or one packed in a way that Python does not know
)


class _RefusedError(Exception):
    """A member that must not be unpacked, with the reason."""


def unpack(archive: Path, folder: Path, form: str, limit: int = LIMIT) -> None:
    """Unpacks an archive into a new folder. form: tar, zip, gz (one packed file), or plain (a file to copy).

    Raises DataError, and leaves no folder, if the archive is damaged, if a member would lie outside of the folder, is a
    link or a device, or if all members together have more than `limit` bytes. Raises DiskError for a full disk.
    """
    print(f"unpacking {archive.name}", flush=True)
    try:
        folder.mkdir(parents=True)
        UNPACKERS[form](archive, folder, limit)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _RefusedError | tarfile.FilterError):
            advice = "unpack it by hand if you trust it"
            raise DataError(f"{archive} is refused, and nothing of it was kept: {error}; {advice}") from error
        if isinstance(error, DAMAGE):
            raise DataError(f"{archive} is damaged ({error}); delete it and fetch it again") from error
        if isinstance(error, OSError):
            raise not_taken(folder, error) or DataError(f"{archive} cannot be unpacked ({error}); mend that") from error
        raise


def _untar(archive: Path, folder: Path, limit: int) -> None:
    total = 0

    def check(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal total
        if member.issym() or member.issparse() or member.size < 0:
            raise _RefusedError(f"its member {member.name!r} is a symbolic link, or has another size than it declares")
        total += member.size
        _check_size(total, limit)
        return tarfile.data_filter(member, path)

    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter=check)


def _unzip(archive: Path, folder: Path, limit: int) -> None:
    """zipfile never writes more of a member than the archive declares, so that it is enough to add this up before."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = PureWindowsPath(member.filename)  # splits at both slashes, and knows drives
            if path.anchor or ".." in path.parts:
                raise _RefusedError(f"its member {member.filename!r} would lie outside of the folder")
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if it was not packed on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"its member {member.filename!r} is a link or a device")
        _check_size(sum(member.file_size for member in opened.infolist()), limit)
        opened.extractall(folder)


def _gunzip(archive: Path, folder: Path, limit: int) -> None:
    total = 0
    with gzip.open(archive) as packed, (folder / archive.stem).open("wb") as file:
        while chunk := packed.read(CHUNK):
            total += len(chunk)
            _check_size(total, limit)
            file.write(chunk)


def _copy(archive: Path, folder: Path, limit: int) -> None:
    shutil.copyfile(archive, folder / archive.name)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _RefusedError(f"it unpacks to more than {limit} bytes, the limit")


UNPACKERS = {"tar": _untar, "zip": _unzip, "gz": _gunzip, "plain": _copy}

"""Unpacks archives without trusting them: nothing is written outside of the folder, and no more than a limit.

Python's data filter (PEP 706) guards tar files. Links have been used to get around it, so symbolic links are refused.
"""

import gzip
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
# ValueError: also a refusal of this module. RuntimeError: a zip that is encrypted, or packed in an unknown way
REFUSED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RuntimeError)


def unpack(archive: Path, folder: Path, form: str) -> None:
    """Unpacks an archive into a new folder. form: tar, zip, gz (one packed file), or plain (a file to copy).

    Raises DataError if the archive is damaged or unsafe, DiskError for a full or read-only disk. A part of it may then
    lie in the folder, which the caller removes.
    """
    print(f"unpacking {archive.name}", flush=True)
    try:
        folder.mkdir(parents=True)
        if form == "plain":
            shutil.copyfile(archive, folder / archive.name)
        else:
            {"tar": _untar, "zip": _unzip, "gz": _gunzip}[form](archive, folder)
    except REFUSED as error:
        advice = "delete it to fetch it again, or unpack it by hand if you trust it"
        raise DataError(f"{archive} is damaged or unsafe ({error}); {advice}") from error
    except OSError as error:
        raise not_taken(folder, error) or DataError(f"{archive} cannot be unpacked ({error}); mend that") from error


def _untar(archive: Path, folder: Path) -> None:
    total = 0

    def check(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal total
        if member.issym() or member.issparse() or member.size < 0:
            raise ValueError(f"its member {member.name!r} is a symbolic link, or has not the size that it declares")
        total += member.size
        _check_size(total)
        return tarfile.data_filter(member, path)

    with tarfile.open(archive, "r:" if archive.suffix == ".tar" else "r:gz") as opened:
        opened.extractall(folder, filter=check)


def _unzip(archive: Path, folder: Path) -> None:
    """Checks all members first: zipfile writes no more of a member than the archive declares."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = PureWindowsPath(member.filename)  # splits at both slashes, and knows drives
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if it was not packed on Unix
            if path.anchor or ".." in path.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"its member {member.filename!r} lies outside of the folder, or is a link or a device")
        _check_size(sum(member.file_size for member in opened.infolist()))
        opened.extractall(folder)


def _gunzip(archive: Path, folder: Path) -> None:
    with gzip.open(archive) as packed, (folder / archive.stem).open("wb") as file:
        while chunk := packed.read(CHUNK):
            _check_size(file.tell() + len(chunk))
            file.write(chunk)


def _check_size(size: int) -> None:
    if size > LIMIT:
        raise ValueError(f"it unpacks to more than {LIMIT} bytes, the limit")

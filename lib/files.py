"""Files and folders that are whole or not there, and a clear word where the disk does not take them."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

REASONS = {  # why, and what to do
    errno.ENOSPC: "there is no room left on its disk; make room",
    errno.EDQUOT: "the quota of its disk is used up; make room",
    errno.EFBIG: "files as large as that are not allowed; raise the limit (ulimit -f)",
    errno.EROFS: "its disk is read-only; make it writable",
    errno.EACCES: "its folder may not be written to; allow it",
    errno.EPERM: "its folder may not be written to; allow it",
}


class DiskError(OSError):
    """A file or folder that the disk does not take; the message names it, the reason and what to do."""


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Gives a name beside `target` to write a file or folder under; what is written there then becomes `target`.

    Until then `target` is what it was, also after a kill. Raises DiskError for a disk that is full or read-only.
    """
    partial, before = (target.with_name(f"{target.name}.{end}") for end in ("partial", "before"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        if target.is_dir():  # which no other folder can replace in one move
            _remove(before)
            target.rename(before)
        os.replace(partial, target)
        _remove(before)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            _remove(partial)  # a full disk needs the room
        told = not_taken(target, error)
        if told is None:
            raise
        raise told from error


def not_taken(target: Path, error: OSError | SafetensorError) -> DiskError | None:
    """What there is to say of an error if it means that the disk does not take `target`."""
    reason = REASONS.get(_number(error))
    if reason is None:
        return None
    return DiskError(f"{target} cannot be written: {reason} and run the same command again; what was finished is kept")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _number(error: OSError | SafetensorError) -> int:
    """The system's number of an error; safetensors has it in its text."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else 0

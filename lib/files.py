"""Writes files and folders so that they are whole or not there; a full or read-only disk is an error in one line."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

REASONS = {  # what is wrong, and what to do
    errno.ENOSPC: "there is no room left on its disk; make room",
    errno.EDQUOT: "the quota of its disk is used up; make room",
    errno.EFBIG: "files as large as that are not allowed; raise the limit (ulimit -f)",
    errno.EROFS: "its disk is read-only; make it writable",
    errno.EACCES: "its folder may not be written to; allow it",
    errno.EPERM: "its folder may not be written to; allow it",
}


class DiskError(OSError):
    """A file or folder that cannot be written; the message names it, the reason and what to do."""


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file or folder to; at the end of the context it is renamed to `target`.

    Until then `target` stays as it was, even if the process is killed. Raises DiskError for a full or read-only disk.
    """
    partial, before = (target.with_name(f"{target.name}.{end}") for end in ("partial", "before"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        if target.is_dir():  # a folder cannot be renamed to one that is there
            _remove(before)
            target.rename(before)
        os.replace(partial, target)
        _remove(before)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            _remove(partial)  # on a full disk its room is needed
        if disk_error := not_taken(target, error):
            raise disk_error from error
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all. Raises DiskError for a full or read-only disk."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def not_taken(target: Path, error: OSError | SafetensorError) -> DiskError | None:
    """The DiskError for an error that means that the disk does not take `target`; None for other errors."""
    number = re.search(r"(?:\[Errno|os error) (\d+)", str(error))  # safetensors has it in its text only
    if not number or int(number[1]) not in REASONS:
        return None
    reason = REASONS[int(number[1])]
    return DiskError(f"{target} cannot be written: {reason} and run the same command again; what was finished is kept")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Downloads a file over https: resumes it where it was cut off, checks it, and only then gives it its name.

What has arrived lies beside the target as `<name>.part`, and the next call continues it. Neither torchvision nor pooch
can resume, and the archives have up to 5 GB.
"""

import hashlib
import os
import re
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from lib.study.log import Progress, minutes
from tools.datasets.catalogue import DataError

SCHEME = "https://"  # of every address, and of what it redirects to
WAITS = (1.0, 5.0, 20.0, 60.0)  # seconds before each further try
TIMEOUT = (15.0, 60.0)  # seconds for a connection, and between two pieces of an answer
CHUNK = 1 << 16  # bytes
INTERRUPTED = (requests.ReadTimeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
CHECKSUM = "md5:[0-9a-fA-F]{32}|sha256:[0-9a-fA-F]{64}"


class _RetryError(Exception):
    """A try that failed in a way that the next one may not."""


def download(url: str, target: Path, checksum: str) -> None:
    """Downloads an https address to the file `target`; a target that exists is only checked.

    checksum: "md5:..." or "sha256:...". Raises DataError if an argument is refused, if the server cannot be reached or
    fails again and again, if the file is not the right one, or if it cannot be written.
    """
    if not re.fullmatch(CHECKSUM, checksum):
        raise DataError(f"checksum {checksum!r} of {url} must be md5:<32 hex digits> or sha256:<64 hex digits>")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if (digest := _digest(target, checksum)) != checksum.lower():
                raise DataError(f"{target} has {digest}, not {checksum}; delete it to download {url} again")
            return
        _with_retries(url, part)
        if (digest := _digest(part, checksum)) != checksum.lower():
            part.unlink()
            advice = f"run again, or download it by hand to {target}"
            raise DataError(f"what {url} sent has {digest}, not {checksum}, and was removed; {advice}")
        os.replace(part, target)
    except requests.RequestException as error:  # the address, or one that it redirects to, is no https
        raise DataError(f"{url} cannot be downloaded ({error}); correct the address") from error
    except OSError as error:
        raise DataError(f"{url} cannot be stored as {target} ({error}); mend that and run again") from error


def _digest(file: Path, checksum: str) -> str:
    kind = checksum.partition(":")[0]
    with file.open("rb") as opened:
        return f"{kind}:{hashlib.file_digest(opened, kind).hexdigest()}"


def _with_retries(url: str, part: Path) -> None:
    """Tries until the part is whole. If the first try finds no connection, this machine is offline: no second try."""
    for number, wait in enumerate((*WAITS, None), 1):
        try:
            return _continue(url, part)
        except (_RetryError, *INTERRUPTED) as error:
            # an error of a connection that could not be made has a reason, that of one that was cut has none
            reason = getattr(next(iter(error.args), None), "reason", None)
            if wait is None or (reason and number == 1):
                advice = f"run again later, check the address, or download it by hand to {part.with_suffix('')}"
                raise DataError(f"{url}: {reason or error} (try {number}); {advice}") from error
            print(f"{part.name}: {reason or error}; trying again in {minutes(wait)}", flush=True)
            time.sleep(wait)


def _continue(url: str, part: Path) -> None:
    """One request for what the part still lacks. Raises _RetryError or one of INTERRUPTED if another try may help."""
    begun = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    session = requests.Session()
    session.adapters.clear()
    session.mount(SCHEME, HTTPAdapter())  # the only one: redirects to other addresses are errors
    with session, session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status = response.status_code
        if status == 416 and begun:
            return  # the server has no more; the checksum tells whether this is all
        if status >= 500:
            raise _RetryError(f"the server answers {status} {response.reason}")
        if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            part.unlink(missing_ok=True)
            raise _RetryError(f"the server did not send the piece from byte {begun}")
        if status not in (200, 206):
            raise DataError(f"{url}: the server answers {status} {response.reason}; check the address")
        response.raw.headers.pop("Content-Encoding", None)  # some servers say gzip of a .tgz, which must stay packed
        length, start = int(response.headers.get("Content-Length", 0)), begun if status == 206 else 0
        progress = Progress(part.name, start + length, start)
        with part.open("ab" if status == 206 else "wb") as file:
            for chunk in response.iter_content(CHUNK):  # raises if the body is shorter than declared
                file.write(chunk)
                if length:
                    progress.report(file.tell(), "bytes")

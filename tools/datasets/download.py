"""Fetching a file from the web: over https, resumed where it was cut, checked, under its name only when it is right.

What has come so far lies beside the target as `<name>.part`; the next call goes on from there.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from lib.study.paths import DATA
from lib.study.progress import minutes

WAITS = (1.0, 5.0, 20.0, 60.0)  # seconds before each further try
TIMEOUT = (15.0, 60.0)  # seconds for a connection, and between two pieces of an answer
EVERY = 5.0  # seconds between two lines of progress
CHUNK = 1 << 16  # bytes
CUT = (requests.ReadTimeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
LOOPBACK = {"127.0.0.1", "::1", "localhost"}  # this machine itself: nobody listens on the way
SUM = "md5:[0-9a-fA-F]{32}|sha256:[0-9a-fA-F]{64}"


class DownloadError(ValueError):
    """A file that cannot be had; the message names the URL, the file and what to do."""


class _CutError(Exception):
    """A try that failed in a way that the next one may not; offline: no connection could be made."""

    def __init__(self, why: str, offline: bool = False) -> None:
        super().__init__(why)
        self.offline = offline


@dataclass(frozen=True)
class _Wanted:
    """What is to be fetched."""

    url: str
    target: Path
    checksum: str

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def advice(self) -> str:
        return f"check the address, or download it by hand to {self.target}"

    def fault(self, file: Path) -> str | None:
        """What is wrong with a file, as the rest of a sentence; None if nothing is."""
        kind, _, wanted = self.checksum.partition(":")
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, kind).hexdigest()
        return None if digest == wanted.lower() else f"has {kind} {digest}, not {wanted}"


def fetch(url: str, target: Path, checksum: str, root: Path = DATA) -> Path:
    """The file of an https address as `target`, a file below `root`. Returns the target.

    checksum: "md5:..." or "sha256:...". A target that is there and right (it is computed again) costs no connection.
    Raises DownloadError if an argument is refused, if the target that is there is not right, if the server cannot be
    reached, refuses or fails again and again, or if what it sends is not right.
    """
    _check_arguments(url, target, checksum, root)
    wanted = _Wanted(url, target, checksum)
    try:
        there = target.exists()
        if not there:
            _fetch(wanted)
        elif fault := wanted.fault(target):  # perhaps somebody's own file
            raise DownloadError(f"{target} is there but {fault}; delete it to fetch {url} again")
        wanted.part.unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(f"{url} cannot be kept as {target} ({error}); mend that and run again") from error
    kind = checksum.partition(":")[0]
    print(f"{target.name}: {'is there' if there else 'fetched'}, {kind} right", flush=True)
    return target


def _check_arguments(url: str, target: Path, checksum: str, root: Path) -> None:
    if not _is_safe(url):
        raise DownloadError(f"{url!r} is no address that starts with https://; correct it")
    place, top = target.absolute(), root.absolute()
    if place == top or not place.is_relative_to(top) or ".." in place.relative_to(top).parts:
        raise DownloadError(f"{target}, for {url}, does not lie below {root}; it must, and without '..'")
    if not re.fullmatch(SUM, checksum):
        raise DownloadError(f"checksum {checksum!r} of {url} must be md5:<32 hex digits> or sha256:<64 hex digits>")


def _is_safe(url: str) -> bool:
    """True for an https address of some host; http is for a server on this machine."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        )
    except ValueError:
        return False


def _refuse_unsafe(response: requests.Response, **_: Any) -> None:
    """Called for every answer, before a redirect in it is followed."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        if not _is_safe(target):
            raise DownloadError(
                f"{response.url} sends on to {target}, which is not https; it is not followed, correct the address"
            )


def _fetch(wanted: _Wanted) -> None:
    """Downloads, checks, and gives the file its name."""
    part, target = wanted.part, wanted.target
    target.parent.mkdir(parents=True, exist_ok=True)
    _download(wanted)
    if fault := wanted.fault(part):
        part.unlink()
        raise DownloadError(f"what came from {wanted.url} {fault}, and was removed; {wanted.advice}")
    os.replace(part, target)


def _download(wanted: _Wanted) -> None:
    """Tries until the part is whole. A first try that finds no connection is the last: this machine is offline."""
    for number, wait in enumerate((*WAITS, None), 1):
        try:
            return _attempt(wanted)
        except _CutError as error:
            if wait is None or (error.offline and number == 1):
                message = f"{wanted.url}: {error} (try {number}); run again later, {wanted.advice}"
                raise DownloadError(message) from error
            print(f"{wanted.target.name}: {error}; trying again in {minutes(wait)}", flush=True)
            time.sleep(wait)


def _attempt(wanted: _Wanted) -> None:
    """One request for what is missing of the part. Raises _CutError if another may help, else DownloadError."""
    part, url = wanted.part, wanted.url
    begun = part.stat().st_size if part.exists() else 0
    with _answer(url, begun) as response:
        status = response.status_code
        if status == 416 and begun:  # the server has no more than what lies here
            if wanted.fault(part):
                part.unlink()
                raise _CutError("what came so far is not the beginning of the server's file")
        elif status >= 500:
            raise _CutError(f"the server answers {status} {response.reason}")
        elif status == 200:
            _write(response, wanted, 0)
        elif status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            _write(response, wanted, begun)
        elif status == 206:
            part.unlink(missing_ok=True)
            raise _CutError(f"the server sends another piece than that from byte {begun}")
        else:
            raise DownloadError(f"{url}: the server answers {status} {response.reason}; {wanted.advice}")


@contextmanager
def _answer(url: str, begun: int) -> Iterator[requests.Response]:
    """The server's answer, its body not yet read, to a request for all from byte `begun`."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    how: dict[str, Any] = {"headers": headers, "hooks": {"response": _refuse_unsafe}}
    try:
        with requests.get(url, **how, stream=True, timeout=TIMEOUT) as response:
            response.raw.headers.pop("Content-Encoding", None)  # some say gzip of a .tgz: keep it as it is
            yield response
    except CUT as error:
        reason = getattr(next(iter(error.args), None), "reason", None)  # why no connection could be made
        what = "the connection was cut or too slow" if reason is None else "no connection"
        raise _CutError(f"{what} ({reason or error})", offline=reason is not None) from error
    except requests.RequestException as error:
        raise DownloadError(f"{url} cannot be fetched ({error}); correct the address") from error


def _write(response: requests.Response, wanted: _Wanted, begun: int) -> None:
    """Writes the answer's body behind the first `begun` bytes of the part, and tells how far it is."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    length = response.headers.get("Content-Length", "")
    whole = int(total) if total.isdigit() else begun + int(length) if length.isdigit() else None
    done = begun
    started = printed = time.monotonic()
    with wanted.part.open("ab" if begun else "wb") as file:
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if time.monotonic() - printed >= EVERY:
                printed = time.monotonic()
                pace = (printed - started) / (done - begun)
                rest = f" of {whole / 1e6:.1f} MB, {minutes(pace * (whole - done))} left" if whole else " MB"
                print(f"{wanted.target.name}: {done / 1e6:.1f}{rest}", flush=True)
    if whole is not None and done < whole:
        raise _CutError(f"the answer ends after {done} of {whole} bytes")

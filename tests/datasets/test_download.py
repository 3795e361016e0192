"""Downloads from a loopback server that cuts, stalls, lies and refuses: what it was asked, what is on disk then."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.datasets import download as module
from tools.datasets.catalogue import DataError
from tools.datasets.download import download

BODY = bytes(range(256)) * 4
BAD = BODY[:-1] + b"?"
MD5, BAD_MD5 = (f"md5:{hashlib.md5(body).hexdigest()}" for body in (BODY, BAD))
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
WHOLE, PART = {"set.tgz": BODY}, "set.tgz.part"


@dataclass(frozen=True)
class Answer:
    """The body, or what a Range asks for, up to `stop` bytes, and then an end or a stall. A header "" is left out."""

    body: bytes = BODY
    ranges: bool = True
    stop: int | None = None
    stall: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """What a server answers in turn, the last answer again and again; the Ranges it saw, and the bytes it sent."""

    target: Path
    url: str
    plan: list[Answer]
    seen: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def get(self, checksum: str = MD5, part: bytes = b"", fails: str = "") -> dict[str, bytes]:
        """Downloads the file, perhaps with a part in place or an expected error; returns what the folder holds."""
        self.target.parent.mkdir(exist_ok=True)
        if part:
            self.target.with_name(PART).write_bytes(part)
        if fails:
            with pytest.raises(DataError, match=fails) as caught:
                download(self.url, self.target, checksum)
            assert self.url in str(caught.value)
        else:
            download(self.url, self.target, checksum)
        return {path.name: path.read_bytes() for path in self.target.parent.iterdir()}


class Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        web, asked = self.web, self.headers["Range"]
        assert self.headers["Accept-Encoding"] == "identity"
        answer = web.plan.pop(0) if len(web.plan) > 1 else web.plan[0]
        begun = int(asked[6:-1]) if asked and answer.ranges and answer.status == 200 else 0
        rest, whole = answer.body[begun:], len(answer.body)
        web.seen.append(asked)
        web.sent.append(len(rest[: answer.stop]))
        self.send_response((206 if rest else 416) if begun else answer.status)
        span = f"bytes {begun}-{whole - 1}/{whole}" if begun else ""
        for name, value in ({"Content-Length": str(len(rest)), "Content-Range": span} | answer.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest[: answer.stop])
        if answer.stall:
            web.over.wait(5)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    changes = {"SCHEME": "http://127.0.0.1:", "WAITS": (0.0, 0.0, 0.0), "TIMEOUT": (2.0, 0.3), "CHUNK": 16}
    for name, value in changes.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/set.tgz"
        Handler.web = Web(tmp_path / "raw" / "set.tgz", url, [Answer()])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Handler.web
        Handler.web.over.set()
        server.shutdown()
        thread.join()


OTHER, TGZ = {"Content-Range": "bytes 0-9/1024"}, {"Content-Encoding": "x-gzip"}
SILENT = {"Content-Length": ""}
REFUSAL = {status: Answer(b"", status=status) for status in (403, 404, 500, 503)}
ENDS_WELL = {  # bytes of a part that lie there, answers, first bytes asked for, bytes sent
    "cut twice": (0, [Answer(stop=400), Answer(stop=320), Answer()], [0, 400, 720], [400, 320, 304]),
    "cut, no ranges": (0, [Answer(stop=400), Answer(ranges=False)], [0, 400], [400, 1024]),
    "stalled": (0, [Answer(stop=480, stall=True), Answer()], [0, 480], [480, 544]),
    "failed a while": (0, [REFUSAL[500], REFUSAL[503], Answer()], [0, 0, 0], [0, 0, 1024]),
    "part of an earlier call": (100, [Answer()], [100], [924]),
    "part is whole": (1024, [Answer()], [1024], [0]),
    "another piece": (100, [Answer(headers=OTHER), Answer()], [100, 0], [924, 1024]),
    "called compressed": (0, [Answer(headers=TGZ)], [0], [1024]),
    "length unknown": (0, [Answer(headers=SILENT)], [0], [1024]),
}


@pytest.mark.parametrize("case", ENDS_WELL)
def test_only_what_is_missing_is_asked_for_and_the_file_is_whole(web: Web, case: str) -> None:
    had, web.plan, begun, sent = ENDS_WELL[case]
    assert web.get(part=BODY[:had]) == WHOLE
    assert web.seen == [f"bytes={first}-" if first else None for first in begun]
    assert web.sent == sent


SHORT = Answer(BODY[:800], headers={"Content-Length": "1024"})
MORE = Answer(BODY * 9, False, headers=SILENT)
WRONG = f"has md5:.*, not {MD5}"
ENDS_BADLY = {  # bytes of a part, answer, words, bytes of the part that stay, requests
    "cut for ever": (0, Answer(stop=160), "try 4", 640, 4),
    "corrupt": (0, Answer(BAD), f"{BAD_MD5}, not {MD5}", 0, 1),
    "part was corrupt": (500, Answer(BAD), WRONG, 0, 1),
    "part is too long": (1025, Answer(), WRONG, 0, 1),
    "shorter than its length": (0, SHORT, WRONG, 0, 2),
    "long, length unknown": (0, MORE, WRONG, 0, 1),
    "not found any more": (100, REFUSAL[404], "404", 100, 1),
    "forbidden": (0, REFUSAL[403], "403 Forbidden", 0, 1),
    "out of order": (0, REFUSAL[500], "500 .*try 4", 0, 4),
}


@pytest.mark.parametrize("case", ENDS_BADLY)
def test_what_is_not_right_gets_no_name_and_the_next_call_goes_on(web: Web, case: str) -> None:
    had, answer, words, stays, requests = ENDS_BADLY[case]
    web.plan = [answer]
    left = web.get(part=(BODY + b"?")[:had], fails=words)
    assert len(web.seen) == requests
    assert left == ({PART: BODY[:stays]} if stays else {})
    web.plan = [Answer()]
    assert web.get() == WHOLE


@pytest.mark.parametrize("checksum", [MD5, SHA, "md5:" + MD5[4:].upper()])
def test_a_file_that_is_there_is_checked_and_left_to_its_owner(web: Web, checksum: str) -> None:
    web.get(checksum)
    assert web.get(checksum) == WHOLE
    web.target.write_bytes(BAD)
    assert web.get(checksum, fails="delete") == {"set.tgz": BAD}
    assert web.seen == [None]


def test_an_offline_machine_does_not_wait_but_a_gap_is_waited_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    real, down = socket.getaddrinfo, [True, False, True, False]  # each look-up in turn

    def look_up(*asked: object) -> object:
        if down.pop(0):
            raise socket.gaierror(-2, "Name or service not known")
        return real(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert web.get(fails="Name or service.* .try 1.; .*by hand") == {}
    web.plan = [Answer(stop=400), Answer()]
    assert web.get() == WHOLE
    assert (web.seen, down) == ([None, "bytes=400-"], [])


@pytest.mark.parametrize("url", ["http://example.org/a", "HTTP://127.0.0.1.example.org/a", "ftp://localhost/a"])
def test_other_addresses_than_https_are_refused_and_no_redirect_to_one_is_followed(web: Web, url: str) -> None:
    with pytest.raises(DataError, match=f"{url} .*correct the address"):
        download(url, web.target, MD5)
    web.plan = [Answer(b"", status=302, headers={"Location": url})]
    assert web.get(fails="correct the address") == {}

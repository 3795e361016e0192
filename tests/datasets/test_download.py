"""Fetching from a loopback server that cuts, stalls, lies and refuses: what it was asked, and what is on disk then."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.datasets import download
from tools.datasets.download import DownloadError, fetch

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
    """What a server shall answer in turn, the last again and again; the Ranges it saw, and the bytes it sent."""

    target: Path
    url: str
    plan: list[Answer]
    seen: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def get(self, checksum: str = MD5, part: bytes = b"", fails: str = "") -> dict[str, bytes]:
        """Fetches the file where a part may lie, may fail by a message, and returns what the folder holds."""
        self.target.parent.mkdir(exist_ok=True)
        if part:
            self.target.with_name(PART).write_bytes(part)
        if fails:
            with pytest.raises(DownloadError, match=fails) as caught:
                fetch(self.url, self.target, checksum, self.target.parent)
            assert self.url in str(caught.value)
            assert str(self.target) in str(caught.value)
        else:
            assert fetch(self.url, self.target, checksum, self.target.parent) == self.target
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
    for name, value in {"WAITS": (0.0, 0.0, 0.0), "TIMEOUT": (2.0, 0.3), "CHUNK": 16}.items():
        monkeypatch.setattr(download, name, value)
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


@pytest.mark.parametrize("checksum", [MD5, SHA, "md5:" + MD5[4:].upper()])
def test_a_file_is_fetched_once(web: Web, checksum: str) -> None:
    assert web.get(checksum) == WHOLE
    assert web.get(checksum, part=b"left over") == WHOLE
    assert (web.seen, web.sent) == ([None], [1024])


OTHER, TGZ = {"Content-Range": "bytes 0-9/1024"}, {"Content-Encoding": "x-gzip"}
SILENT = {"Content-Length": ""}
REFUSAL = {status: Answer(b"", status=status) for status in (403, 404, 500, 503)}
ENDS_WELL = {  # bytes of a part that lie there, answers, first bytes asked for, bytes sent
    "cut twice": (0, [Answer(stop=400), Answer(stop=320), Answer()], [0, 400, 720], [400, 320, 304]),
    "cut, no ranges": (0, [Answer(stop=400), Answer(ranges=False)], [0, 400], [400, 1024]),
    "stalled": (0, [Answer(stop=480, stall=True), Answer()], [0, 480], [480, 544]),
    "stalled at once": (0, [Answer(stop=0, stall=True), Answer()], [0, 0], [0, 1024]),
    "failed a while": (0, [REFUSAL[500], REFUSAL[503], Answer()], [0, 0, 0], [0, 0, 1024]),
    "part of an earlier call": (100, [Answer()], [100], [924]),
    "part is whole": (1024, [Answer()], [1024], [0]),
    "part is too long": (1025, [Answer()], [1025, 0], [0, 1024]),
    "another piece": (100, [Answer(headers=OTHER), Answer()], [100, 0], [924, 1024]),
    "called compressed": (0, [Answer(headers=TGZ)], [0], [1024]),
    "length unknown": (0, [Answer(headers=SILENT)], [0], [1024]),
}


@pytest.mark.parametrize("case", ENDS_WELL)
def test_only_what_is_missing_is_asked_for_and_the_file_is_whole(web: Web, case: str) -> None:
    had, web.plan, begun, sent = ENDS_WELL[case]
    assert web.get(part=(BODY + b"?")[:had]) == WHOLE
    assert web.seen == [f"bytes={first}-" if first else None for first in begun]
    assert web.sent == sent


SUMS = f"has md5 {BAD_MD5[4:]}, not {MD5[4:]}, and was removed; check the address, or download it by hand to"
SHORT = Answer(BODY[:800], headers={"Content-Length": "1024"})
LESS, MORE = (Answer(body, False, headers=SILENT) for body in (BODY[:800], BODY * 9))
WRONG = r"has md5 \w+, not \w+, and was removed"
ENDS_BADLY = {  # bytes of a part, answer, message, bytes of the part that stay, requests
    "cut for ever": (0, Answer(stop=160), r"\(try 4\); run again later, .* by hand to", 640, 4),
    "corrupt": (0, Answer(BAD), SUMS, 0, 1),
    "part was corrupt": (500, Answer(BAD), SUMS, 0, 1),
    "shorter than its length": (0, SHORT, "try 4", 0, 4),
    "short, length unknown": (0, LESS, WRONG, 0, 1),
    "long, length unknown": (0, MORE, WRONG, 0, 1),
    "not found": (0, REFUSAL[404], "answers 404 Not Found; check the address, or", 0, 1),
    "not found any more": (100, REFUSAL[404], "answers 404", 100, 1),
    "forbidden": (0, REFUSAL[403], "answers 403 Forbidden", 0, 1),
    "out of order": (0, REFUSAL[500], "answers 500 .*try 4", 0, 4),
}


@pytest.mark.parametrize("case", ENDS_BADLY)
def test_what_is_not_right_gets_no_name_and_the_next_call_goes_on(web: Web, case: str) -> None:
    had, answer, message, stays, requests = ENDS_BADLY[case]
    web.plan = [answer]
    assert web.get(part=BODY[:had], fails=message) == ({PART: BODY[:stays]} if stays else {})
    assert len(web.seen) == requests
    web.plan = [Answer()]
    assert web.get() == WHOLE
    assert (web.seen[-1], web.sent[-1]) == (f"bytes={stays}-" if stays else None, 1024 - stays)


def test_a_wrong_file_under_the_name_is_left_to_its_owner(web: Web) -> None:
    web.target.parent.mkdir()
    web.target.write_bytes(BAD)
    assert web.get(fails=f"is there but has md5 {BAD_MD5[4:]}, not {MD5[4:]}; delete") == {"set.tgz": BAD}
    assert web.seen == []


def test_offline_is_said_at_once_but_a_gap_is_waited_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    real, down = socket.getaddrinfo, [True, False, True, False]  # each look-up in turn

    def look_up(*asked: object) -> object:
        if down.pop(0):
            raise socket.gaierror(-2, "Name or service not known")
        return real(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert web.get(fails=r"no connection .*Name or service.* \(try 1\); .* download it by hand to") == {}
    web.plan = [Answer(stop=400), Answer()]
    assert web.get() == WHOLE
    assert (web.seen, down) == ([None, "bytes=400-"], [])


def test_a_closed_port_is_no_connection(web: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        web.url = f"http://127.0.0.1:{closed.getsockname()[1]}/set.tgz"
    assert web.get(fails=r"no connection .*refused.* \(try 1\)") == {}


Printed = pytest.CaptureFixture[str]


def test_progress_is_told_now_and_then(web: Web, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(download, "CHUNK", 500_000)
    body = b"x" * 1_200_000
    web.plan, checksum = [Answer(body)], f"md5:{hashlib.md5(body).hexdigest()}"
    for every, told in ((5.0, []), (0.0, ["0.5", "1.0", "1.2"])):
        monkeypatch.setattr(download, "EVERY", every)
        web.get(checksum)
        lines = [f"set.tgz: {done} of 1.2 MB, 0 s left" for done in told]
        assert capsys.readouterr().out.splitlines() == [*lines, "set.tgz: fetched, md5 right"]
        web.target.unlink()


REFUSED = [
    ("url", "ftp://127.0.0.1/a", "'ftp://127.0.0.1/a' is no address that starts with https://; correct it"),
    ("url", "file:///etc/hostname", "is no address"),
    ("url", "http://", "is no address"),
    ("target", "../a", "does not lie below .*; it must, and without '..'"),
    ("target", "b/../../a", "does not lie below"),
    ("target", "/a", "does not lie below"),
    ("target", "", "does not lie below"),
    ("checksum", "sha1:" + "0" * 40, "checksum 'sha1:0+' of http://.* must be md5:<32 hex"),
    ("checksum", MD5[:-1], "must be md5"),
    ("checksum", "", "must be md5"),
    ("target", "file/a", "cannot be kept as .*; mend that and run again"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_cannot_be_is_not_asked(web: Web, tmp_path: Path, key: str, value: str, message: str) -> None:
    (tmp_path / "file").touch()
    given = {"url": web.url, "target": "a", "checksum": MD5} | {key: value}
    with pytest.raises(DownloadError, match=message):
        fetch(given["url"], tmp_path / given["target"], given["checksum"], tmp_path)
    assert web.seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

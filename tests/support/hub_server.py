"""A small Hugging Face hub on the loopback: repositories at one commit each, whose files can be cut short."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(BaseHTTPRequestHandler):
    """Serves folders as repositories: repository and commit by folder. Of `cut` files only the first bytes are sent."""

    repositories: dict[tuple[str, str, str], Path]  # kind (models or datasets), name, commit
    cut: dict[str, int]
    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        for (kind, name, commit), folder in self.repositories.items():
            prefix = f"/{name}" if kind == "models" else f"/{kind}/{name}"
            if path in (f"/api/{kind}/{name}/revision/{commit}", f"/api/{kind}/{name}/tree/{commit}"):
                return self._about(name, commit, folder, tree="/tree/" in path)
            start = f"{prefix}/resolve/{commit}/"
            if path.startswith(start) and (folder / path.removeprefix(start)).is_file():
                return self._file(folder / path.removeprefix(start), commit, body)
        known = any(f"/{name}/" in f"{path}/" for _, name, _ in self.repositories)
        self._send(404, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}, b"{}", body)

    def _about(self, name: str, commit: str, folder: Path, tree: bool) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = [{"rfilename": str(path.relative_to(folder))} for path in files]
        entries = [
            {"type": "file", "path": e["rfilename"], "size": p.stat().st_size, "oid": "0" * 40}
            for e, p in zip(listed, files, strict=True)
        ]
        content = entries if tree else {"id": name, "sha": commit, "siblings": listed}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), body=True)

    def _file(self, file: Path, commit: str, body: bool) -> None:
        content, asked = file.read_bytes(), self.headers["Range"]
        self.asked.append(f"{self.command} {file.name} {asked or ''}".strip())
        begun = int(asked[6:].partition("-")[0]) if asked else 0
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {begun}-{len(content) - 1}/{len(content)}"
        stop = self.cut.pop(file.name, None) if body else None
        self._send(206 if asked else 200, headers, content[begun:], body, stop)

    def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool, stop: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:stop])


@contextmanager
def hub(**repositories: Path) -> Iterator[tuple[str, type[Hub]]]:
    """Serves them at its address; a keyword is kind__owner__name__commit."""

    class Handler(Hub):
        pass

    keys = [tuple(key.split("__")) for key in repositories]
    Handler.repositories = {
        (kind, f"{owner}/{name}", commit): folder
        for (kind, owner, name, commit), folder in zip(keys, repositories.values(), strict=True)
    }
    Handler.cut, Handler.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", Handler
    finally:
        server.shutdown()
        server.server_close()

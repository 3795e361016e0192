"""A small Hugging Face hub on the loopback: repositories at one commit each, whose files can be cut short.

`python -m tests.support.hub_server` serves a random model of TinyCLIP's shape under the study laptop's address.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lib.clip.hub import ADDRESS
from lib.study import studies

HUB_FOLDER = studies.DATA / "hub"
PORT = 8765


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
def hub(repositories: dict[tuple[str, str, str], Path], port: int = 0) -> Iterator[tuple[str, type[Hub]]]:
    """Serves folders by kind (models, datasets), name and commit, at the address that it gives."""

    class Handler(Hub):
        pass

    Handler.repositories = repositories
    Handler.cut, Handler.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", Handler
    finally:
        server.shutdown()
        server.server_close()


def random_clip(folder: Path) -> None:
    """Writes a CLIP of TinyCLIP's shape (ViT-8M/16, Text-3M) with random weights, as transformers does."""
    import torch
    import transformers

    tower = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "hidden_act": "gelu"}
    vision = tower | {"num_hidden_layers": 10, "image_size": 224, "patch_size": 16}
    config = transformers.CLIPConfig(vision_config=vision, text_config=tower | {"num_hidden_layers": 3})
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)


def main() -> None:
    """Serves until it is stopped."""
    address = ADDRESS.fullmatch(studies.read(studies.file_of("laptop"))["backbone"]["model"])
    assert address is not None
    name, commit = address.groups()
    with hub({("models", name, commit): HUB_FOLDER / "model"}, PORT):
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()

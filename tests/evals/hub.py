"""A small stand-in for the data-set side of the hub: repositories are folders, one revision each."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entries(folder: Path) -> list[dict[str, object]]:
    """What the hub lists of a repository."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [
        {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": blob(p)} for p in files
    ]


def blob(path: Path) -> str:
    """The name git gives a file's content."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``root/<org>/<name>/...``; yields the endpoint and the requests it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(True)

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append(f"POST {self.path} {body}")
            path = unquote(urlparse(self.path).path)
            if "/paths-info/" in path:
                folder = root / path.removeprefix("/api/datasets/").split("/paths-info/")[0]
                wanted = json.loads(body)["paths"] if body.startswith("{") else []
                self.send(json.dumps([e for e in entries(folder) if e["path"] in wanted]).encode())
            else:
                self.send(b'{"error": "no such thing"}', status=404)

        def answer(self, whole: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            path = unquote(urlparse(self.path).path)
            if path.startswith("/api/datasets/"):
                parts = path.removeprefix("/api/datasets/").split("/")
                name, rest = "/".join(parts[:2]), parts[2:]
                if not (root / name).is_dir():
                    return self.send(b'{"error": "Repository not found"}', whole, 404, {"X-Error-Code": "RepoNotFound"})
                if rest[:1] == ["tree"]:
                    below = "/".join(rest[2:])
                    found = [e for e in entries(root / name) if str(e["path"]).startswith(below)]
                    return self.send(json.dumps(found).encode(), whole)
                if rest and rest[0] != "revision":
                    return self.send(b'{"error": "Entry not found"}', whole, 404, {"X-Error-Code": "EntryNotFound"})
                info = {
                    "id": name,
                    "sha": COMMIT,
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "siblings": [{"rfilename": e["path"]} for e in entries(root / name)],
                }
                return self.send(json.dumps(info).encode(), whole)
            if path.startswith("/datasets/") and "/resolve/" in path:
                name, rest_of = path.removeprefix("/datasets/").split("/resolve/")
                file = root / name / rest_of.split("/", 1)[1]
                if file.is_file():
                    marks = {"ETag": f'"{blob(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                    return self.send(file.read_bytes(), whole, 200, marks)
            return self.send(b'{"error": "Entry not found"}', whole, 404, {"X-Error-Code": "EntryNotFound"})

        def send(self, data: bytes, whole: bool = True, status: int = 200, more: dict[str, str] | None = None) -> None:
            span = self.headers.get("Range")
            total = len(data)
            if span and status == 200:
                first, _, last = span.removeprefix("bytes=").partition("-")
                end = int(last) + 1 if last else total
                data, status = data[int(first) : end], 206
                more = {**(more or {}), "Content-Range": f"bytes {first}-{end - 1}/{total}"}
            self.send_response(status)
            always = {"Content-Length": str(len(data)), "Content-Type": "application/json"}
            for key, value in {**always, **(more or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if whole:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()

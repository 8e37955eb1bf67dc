"""A small local server in place of Hugging Face's Hub: it answers the requests of huggingface_hub."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """The files of one commit, which is also "main". Files of a `gated` repository are listed, but not sent."""

    files: dict[str, bytes]
    gated: bool = False


@dataclass
class Hub:
    """The server: its address, its repositories, and the paths that were requested."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, folder: Path, gated: bool = False) -> None:
        """Add a repository of all files below a folder."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        self.repositories[name] = Repository(files, gated)

    def fetched(self) -> list[str]:
        """The names of the requested files, sorted."""
        return sorted(path.partition("/resolve/")[2].partition("/")[2] for path in self.asked if "/resolve/" in path)


def _reply(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the reply to a request for a path."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    about = parts[:2] == ["api", "models"]
    name, rest = "/".join(parts[2:4] if about else parts[:2]), parts[4:] if about else parts[2:]
    repository = hub.repositories.get(name)
    if repository is None:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    if rest[1:] and rest[1] not in ("main", COMMIT):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    files = repository.files
    if about:
        tree = [{"type": "file", "path": f, "size": len(x), "oid": _etag(x)} for f, x in files.items()]
        info = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0}
        info["siblings"] = [{"rfilename": file} for file in files]
        return 200, {"Content-Type": "application/json"}, json.dumps(tree if rest[:1] == ["tree"] else info).encode()
    if repository.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b""
    file = "/".join(rest[2:])
    if file not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    return 200, {"ETag": f'"{_etag(files[file])}"', "X-Repo-Commit": COMMIT}, files[file]


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A server that runs until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            path = urlsplit(self.path).path
            if self.command == "GET":
                hub.asked.append(path)
            status, headers, body = _reply(hub, path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = answer

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask_here(patch: pytest.MonkeyPatch, url: str, cache: Path, offline: bool = False) -> None:
    """Make huggingface_hub, which reads its settings when it is imported, use a server and a cache folder."""
    import huggingface_hub

    # These are imported on first use and would copy the settings then, so they are imported before.
    _ = huggingface_hub.HfApi, huggingface_hub.snapshot_download, huggingface_hub.try_to_load_from_cache
    values = {
        "ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache), "HUGGINGFACE_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": offline,
        "HF_TOKEN_PATH": str(cache / "no-token"),
    }  # fmt: skip
    for name, module in list(sys.modules.items()):
        for setting in values if name.partition(".")[0] == "huggingface_hub" else ():
            if setting in vars(module):
                patch.setattr(module, setting, values[setting])
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)

"""A Hugging Face hub on loopback, as far as its client uses it: what a repository has
(/api/models/ORG/REPO), and HEAD and GET of its files (/ORG/REPO/resolve/REVISION/PATH).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

COMMIT = "a" * 40
REVISIONS = ("v1", "main", COMMIT)


@dataclass
class Repository:
    """What the hub has under a name."""

    files: Mapping[str, bytes]
    task: str = ""
    licence: str = ""
    lies: Mapping[str, str] = field(default_factory=dict)
    """By path, a sha256 that the hub says and the file does not have."""
    commit: str = COMMIT

    def description(self, name: str) -> dict[str, object]:
        """As /api/models has it, with ``blobs=true``."""
        siblings = []
        for path, content in self.files.items():
            entry: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": "b" * 40}
            if path.endswith(".onnx"):
                digest = self.lies.get(path, hashlib.sha256(content).hexdigest())
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {
            "id": name,
            "sha": self.commit,
            "siblings": siblings,
            "cardData": {"license": self.licence} if self.licence else {},
            **({"pipeline_tag": self.task} if self.task else {}),
        }


class _Handler(BaseHTTPRequestHandler):
    repositories: Mapping[str, Repository]
    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.requests.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/"))
            return
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, path = rest.partition("/")
        if name not in self.repositories:
            self._refuse("RepoNotFound")
        elif revision not in REVISIONS:
            self._refuse("RevisionNotFound")
        elif path not in self.repositories[name].files:
            self._refuse("EntryNotFound")
        else:
            content = self.repositories[name].files[path]
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    def _describe(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        if name not in self.repositories:
            self._refuse("RepoNotFound")
        elif (revision or "main") not in REVISIONS:
            self._refuse("RevisionNotFound")
        else:
            content = json.dumps(self.repositories[name].description(name)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def hub_of(repositories: Mapping[str, Repository]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and its requests so far."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"repositories": repositories, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A hub of one repository, ``acme/tiny``."""
    with hub_of({"acme/tiny": Repository(files)}) as (url, requests):
        yield url, requests


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Has the client ask this hub: it reads HF_ENDPOINT when it is imported, which another test may
    have done.
    """
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

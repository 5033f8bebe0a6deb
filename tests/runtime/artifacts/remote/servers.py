"""Where models lie, on loopback: a web server that keeps to RFC 9110 or breaks it as it is told, an
S3 bucket, a bucket of Google's and an MLflow server, each as far as its client uses it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Callable[["Handler", bytes], bool]
"""Told the handler and the file; True: it has answered itself."""


@dataclass
class Files:
    """What a server has, and what it was asked.

    Attributes:
        contents: by path, without the first slash; of a store behind the bucket's name.
        faults: for the requests of bodies to come, one each; None: none.
        marks: whether a file has an ETag.
        requests: lines such as ``GET /a bytes=5-``.
        headers: of the last request.
        answers: by path and query, JSON.
    """

    contents: dict[str, bytes]
    faults: list[Fault | None] = field(default_factory=list)
    marks: bool = True
    requests: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, object] = field(default_factory=dict)
    url: str = ""

    def tag(self, path: str) -> str:
        """The ETag of a file."""
        return f'"{hashlib.md5(self.contents[path]).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """All of these servers by their paths."""

    protocol_version = "HTTP/1.1"
    files: Files

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        asked = self.headers.get("Range", "")
        self.files.requests.append(f"{self.command} {self.path} {asked}".strip())
        self.files.headers = {key.lower(): value for key, value in self.headers.items()}
        url = urlsplit(self.path)
        path, query = unquote(url.path).lstrip("/"), parse_qs(url.query)
        if self.path in self.files.answers:
            self._send_json(self.files.answers[self.path])
        elif "list-type" in query:
            self._list_s3(path.strip("/"), query.get("prefix", [""])[0])
        elif found := re.fullmatch(r"storage/v1/b/([^/]+)/o/(.+)", path):
            self._describe_google(f"{found[1]}/{found[2]}")
        elif found := re.fullmatch(r"storage/v1/b/([^/]+)/o/?", path):
            self._send_json({"kind": "storage#objects"})
        elif found := re.fullmatch(r"download/storage/v1/b/([^/]+)/o/(.+)", path):
            self._send_file(f"{found[1]}/{found[2]}")
        else:
            self._send_file(path.removeprefix("api/2.0/mlflow-artifacts/artifacts/"))

    def _send_file(self, path: str) -> None:
        if path not in self.files.contents:
            self.send_error(404)
            return
        content = self.files.contents[path]
        if self.command == "GET" and self.files.faults:
            fault = self.files.faults.pop(0)
            if fault is not None and fault(self, content):
                self.close_connection = True
                return
        self.send_content(path, content)

    def send_content(self, path: str, content: bytes, *, cut: int | None = None) -> None:
        """A file, or the part that is asked for; ``cut``: the connection ends after so many."""
        tag = self.files.tag(path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        body = content
        if asked and condition in (None, tag):
            begin, end = int(asked[1]), int(asked[2] or len(content) - 1)
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[begin : end + 1]
            self.send_response(206)
            last = begin + len(body) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{len(content)}")
        else:
            self.send_response(200)
        if self.files.marks:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])

    def _send_json(self, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list_s3(self, bucket: str, prefix: str) -> None:
        keys = [path.removeprefix(f"{bucket}/") for path in self.files.contents]
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size></Contents>"
            for key in keys
            if key.startswith(prefix)
        )
        body = f"<ListBucketResult><Name>{bucket}</Name>{entries}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _describe_google(self, path: str) -> None:
        if path not in self.files.contents:
            self.send_error(404)
            return
        content = self.files.contents[path]
        bucket, _, name = path.partition("/")
        generation = str(int(hashlib.md5(content).hexdigest()[:12], 16))
        self._send_json(
            {
                "kind": "storage#object",
                "bucket": bucket,
                "name": name,
                "size": str(len(content)),
                "generation": generation,
                "etag": generation,
                "updated": "2026-11-28T10:00:00Z",
                "timeCreated": "2026-11-28T10:00:00Z",
            }
        )

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def serve_files(contents: dict[str, bytes]) -> Iterator[Files]:
    """A server of these files; its address is in ``url``."""
    files = Files(contents)
    handler = type("Handler", (Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cut_after(size: int) -> Fault:
    """The connection ends after so many bytes of the body."""

    def fault(handler: Handler, content: bytes) -> bool:
        path = next(path for path, one in handler.files.contents.items() if one == content)
        handler.send_content(path, content, cut=size)
        return True

    return fault


def answer(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    """This answer instead of the file."""

    def fault(handler: Handler, content: bytes) -> bool:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return fault


def endless(handler: Handler, content: bytes) -> bool:
    """A body in chunks that does not end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    piece = b"x" * 65536
    try:
        while True:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    except OSError:
        return True


def replaced_by(new: bytes, cut: int) -> Fault:
    """The connection ends after so many bytes, and meanwhile the file is another."""

    def fault(handler: Handler, content: bytes) -> bool:
        cut_after(cut)(handler, content)
        path = next(path for path, one in handler.files.contents.items() if one == content)
        handler.files.contents[path] = new
        return True

    return fault

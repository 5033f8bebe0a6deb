"""A server behind HAProxy in place of Ray's replicas."""

from __future__ import annotations

from contextlib import suppress
from http.server import BaseHTTPRequestHandler


class Backend(BaseHTTPRequestHandler):
    """Is well; ``answer``, a subclass's, answers a POST whose body has been read."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a head and its body are two packets

    def do_POST(self) -> None:
        """A call."""
        self.answer(self.read_body())

    def read_body(self) -> bytes:
        """By its length, or in chunks, whose trailers are read over."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def answer(self, body: bytes) -> None:
        """To a call."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """HAProxy's health check."""
        with suppress(ConnectionError):  # HAProxy was ended during its health check
            self.say(b"well")

    def say(self, answer: bytes) -> None:
        """A whole answer."""
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Nothing: the tests look at what arrived."""

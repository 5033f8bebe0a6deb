"""Latency of one connection that has one request in flight: a plain socket, so that the client costs as little as Python allows."""

from __future__ import annotations

import gc
import json
import re
import socket
import time
from collections.abc import Mapping
from types import TracebackType

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMEOUT_S = 30.0


class BadAnswer(Exception):
    """The server refused a request, or its answer is not one we can measure."""


class Connection:
    """A kept-alive HTTP/1.1 connection that posts one body again and again.

    Answers must carry ``Content-Length``: those of Wakeful's hot routes do.
    """

    # Mutable state: the socket. Every answer is read to its last byte before the next request goes out.

    def __init__(self, host: str, port: int, path: str, body: Mapping[str, object]) -> None:
        payload = json.dumps(body).encode()
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        ).encode() + payload
        self._socket = socket.create_connection((host, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def post(self) -> bytes:
        """One exchange; the answer's body.

        Raises:
            BadAnswer: another status than 200, no length, or the connection ended.
        """
        self._socket.sendall(self._request)
        received = self._receive()
        while (split := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head, length = received[:split], LENGTH.search(received, 0, split)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise BadAnswer(f"not an answer of status 200 with a length: {received[:300]!r}")
        end = split + 4 + int(length[1])
        while len(received) < end:
            received += self._receive()
        return received[split + 4 :]

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise BadAnswer("the server closed the connection.")
        return data


def probe(connection: Connection, count: int, warm_up: int = 50) -> list[float]:
    """The seconds of ``count`` exchanges, one after another, with the garbage collector at rest."""
    for _ in range(warm_up):
        connection.post()
    seconds = []
    gc.disable()
    try:
        for _ in range(count):
            start = time.perf_counter()
            connection.post()
            seconds.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds

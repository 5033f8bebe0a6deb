"""Bytes on a socket that no client library would send, and all that is answered to them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

WAIT_S = 30.0
"""Longest silence of a server before the connection counts as left open."""


@dataclass(frozen=True)
class Answer:
    """One response, whole.

    Attributes:
        headers: names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded; None where it is no JSON."""
        with suppress(ValueError):
            return json.loads(self.body)
        return None


@dataclass(frozen=True)
class Exchange:
    """What came of some bytes.

    Attributes:
        answers: whole responses, without interim ones (100).
        rest: what the server sent beside them: nothing, unless it was cut off.
        is_closed: whether the server ended the connection.
    """

    answers: Sequence[Answer]
    rest: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of each answer."""
        return [one.status for one in self.answers]

    def __str__(self) -> str:
        end = "closed" if self.is_closed else "left open"
        said = [(one.status, one.body[:300]) for one in self.answers]
        return f"{said}, {end}" + (f", and {self.rest[:200]!r}" if self.rest else "")


def exchange(port: int, *parts: bytes, wait_s: float = WAIT_S) -> Exchange:
    """Send these parts, each when the one before is on its way, and read until the server closes.

    A server that closes early resets what is still sent; what it said before counts.
    """
    received, is_closed = bytearray(), False
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        try:
            while chunk := connection.recv(1 << 16):
                received += chunk
            is_closed = True
        except ConnectionError:
            is_closed = True
        except TimeoutError:
            pass
    answers, rest = parse(bytes(received))
    return Exchange(answers, rest, is_closed)


def parse(data: bytes) -> tuple[list[Answer], bytes]:
    """The whole responses in these bytes, and what is behind them."""
    answers: list[Answer] = []
    while (end := data.find(b"\r\n\r\n")) >= 0 and data.startswith(b"HTTP/1."):
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        rest = data[end + 4 :]
        if 100 <= status < 200:
            data = rest
            continue
        if headers.get("transfer-encoding") == "chunked":
            body, after = _dechunk(rest)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, after = rest[:length], (rest[length:] if len(rest) >= length else None)
        else:
            body, after = rest, b""
        if after is None:
            break
        answers.append(Answer(status, headers, body))
        data = after
    return answers, data


def _dechunk(data: bytes) -> tuple[bytes, bytes | None]:
    """A body in chunks and what is behind it; None: it is not whole."""
    body = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", data, re.IGNORECASE):
        size = int(match[1], 16)
        data = data[match.end() :]
        if not size:
            return body, data.removeprefix(b"\r\n")
        body, data = body + data[:size], data[size + 2 :]
    return body, None

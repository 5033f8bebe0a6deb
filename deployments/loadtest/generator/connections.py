"""Kept-alive connections to one server and exchanges on them, by the parser of geventhttpclient,
which Locust's ``FastHttpUser`` uses. Nothing is sent twice: a client that tries again hides losses.

Imported where gevent's loop runs; it blocks greenlets alone.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import gevent.socket
import gevent.ssl
from gevent.monkey import get_original
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from deployments.ingress.tls.clients import NO_FILES, ClientFiles
from deployments.loadtest.calls.load_call import LoadCall

CONNECT_S: Final = 5.0
"""Longest wait for a connection."""

IDLE_S: Final = 0.5
"""A connection that was idle for longer is looked at before it is used again: servers close idle
ones, after 5 s and more.
"""

BLOCK_BYTES: Final = 64 << 10
"""Read at once."""

MOST_ANSWER_BYTES: Final = 64 << 20
"""Of an answer, its head included, as it comes: each connection may hold one."""

REFUSED: Final = "refused"
CUT: Final = "cut"
TIMEOUT: Final = "timeout"
TOO_LARGE: Final = "answer_too_large"

UNSENT: Final = "unsent"
"""This machine could not open a connection: the generator's limit, and no fault of the server."""

_SHORT_HERE: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
)
"""Of files, ports or memory of this machine."""

_poll: Any = get_original("select", "poll")
"""Also where Locust has replaced it by one that waits for the loop."""


class NoAnswer(Exception):
    """The whole answer did not come; the message is the reason, in one word.

    Attributes:
        words: the reason as a sentence; empty: the word says it.
    """

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__(reason)
        self.words = words


class Answer(NamedTuple):
    """What was read.

    Attributes:
        headers: by name in lower case.
        first: when the first item of a stream was read; None for other answers.
        done: when the last byte was read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    first: float | None
    done: float


class Server:
    """Where a server is, and the connections to it that are idle.

    Args:
        url: without a path.
        trust: files with which it is asked, if it speaks TLS.

    Mutable state: ``_idle``, connections that no call uses and since when, the last used last;
    ``_addresses``, those of the host, and the one that answered alone once there is one.
    """

    def __init__(self, url: str, trust: ClientFiles = NO_FILES) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        port = parts.port or (443 if self._is_tls else 80)
        # resolved once: a name server is no part of a call's latency
        found = socket.getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        self._addresses: list[tuple[int, Any]] = [(one[0], one[4]) for one in found]
        self._host_header = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._tls = (
            trust.context(gevent.ssl) or gevent.ssl.create_default_context()
            if self._is_tls
            else None
        )
        self._idle: list[tuple[Any, float]] = []

    def head_of(self, call: LoadCall, more: Mapping[str, str] | None = None) -> bytes:
        """The head of a call's request, to be kept and sent often."""
        fields = {
            "host": self._host_header,
            "user-agent": "wakeful-loadtest",
            **call.headers,
            **(more or {}),
            "content-length": str(len(call.body)),
        }
        lines = [f"{call.method} {self._prefix}{call.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def take(self) -> Any:
        """An idle connection that is still open, else a new one.

        Raises:
            NoAnswer: there is none to be had.
        """
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < IDLE_S or _is_open(connection):
                return connection
            connection.close()
        try:
            return self._connect()
        except TimeoutError:
            raise NoAnswer(TIMEOUT) from None
        except OSError as error:
            raise NoAnswer(UNSENT if error.errno in _SHORT_HERE else REFUSED) from None

    def give_back(self, connection: Any) -> None:
        """Keep a connection for another call."""
        self._idle.append((connection, time.monotonic()))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[0].close()

    def _connect(self) -> Any:
        """A new connection: ``localhost`` may be ::1 first, where nothing listens."""
        *others, last = self._addresses
        for family, address in others:
            with contextlib.suppress(OSError):
                return self._connect_to(family, address)
        return self._connect_to(*last)

    def _connect_to(self, family: int, address: Any) -> Any:
        made = gevent.socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(CONNECT_S)
            made.connect(address)
            self._addresses = [(family, address)]
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                made = self._tls.wrap_socket(made, server_hostname=self._host)
            made.settimeout(None)  # the whole call has a deadline
        except BaseException:
            made.close()
            raise
        return made


def _is_open(connection: Any) -> bool:
    """Nothing has come on an idle connection: what comes is its end."""
    poll = _poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


class _BoundedResponse(HTTPSocketResponse):
    """An answer that is read no further than ``MOST_ANSWER_BYTES``.

    Mutable state: ``_received``, bytes so far.
    """

    _received = 0

    def feed(self, data: str | bytes) -> None:
        """Take what has come.

        Raises:
            NoAnswer: it is too much.
        """
        self._received += len(data)
        if self._received > MOST_ANSWER_BYTES:
            raise NoAnswer(
                TOO_LARGE, f"more than {MOST_ANSWER_BYTES >> 20} MiB, which are not read on"
            )
        super().feed(data)


def send(server: Server, connection: Any, request: bytes, call: LoadCall) -> Answer:
    """Send a request and read its answer; the connection is given back, or closed.

    Raises:
        NoAnswer: the server closed the connection before the end of the answer, or that is too
            large.
    """
    can_stay = False
    try:
        with contextlib.suppress(ConnectionError):  # it may have answered before it had read all
            connection.sendall(request)
        response = _BoundedResponse(connection, block_size=BLOCK_BYTES, method=call.method)
        body, first = _read_body(response, is_stream=call.wire == "stream")
        done = time.monotonic()
        can_stay = not response.should_close()
    except (OSError, HTTPParseError):
        raise NoAnswer(CUT) from None
    finally:
        if can_stay:
            server.give_back(connection)
        else:
            connection.close()
    headers = {name.lower(): str(value) for name, value in response.headers}
    return Answer(response.status_code, headers, body, first, done)


def _read_body(response: HTTPSocketResponse, *, is_stream: bool) -> tuple[bytes, float | None]:
    """The body, and when the first item of a stream had come."""
    if not is_stream:
        return response.read(), None
    lines = list[bytes]()
    while line := response.readline(b"\n"):
        lines.append(line)
        if line.startswith(b"data:"):
            first = time.monotonic()
            return b"".join([*lines, response.read()]), first
    return b"".join([*lines, response.read()]), None

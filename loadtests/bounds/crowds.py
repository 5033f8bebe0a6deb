"""``python -m loadtests.bounds.crowds``: the same hostile connection ten thousand times, against
`wakeful run`. What is left of them in memory, and how long an innocent large call takes meanwhile.

    memory   what the process has more once they are gone, after as many warmed it up: 8 MB
    call     8 MB there and back beside them, the median of its times over that alone: 2

Exits 1 if a kind breaks one. Connections that do not read their answers are fewer, and held at
once: each keeps sockets full.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

import click
import httpx

from loadtests import declare
from loadtests.bounds import loops
from loadtests.bounds.command import ROOT, declared
from loadtests.command import heading, say
from loadtests.server import free_port, local
from runtime.http.transport.peer import UNREAD_S

MOST_LEFT_MB: Final = 8.0
MOST_SLOWER: Final = 2.0
WARMING: Final = 1000
HELD: Final = 8
"""Connections at once that do not read; of each a whole answer waits. With 24 they hold all bytes
that calls of the function may (``max_ongoing_bytes``), and others are refused (429) until the
server cuts them off.
"""

FLOATS: Final = 2_000_000
HEAD: Final = json.dumps(
    {
        "inputs": [
            {
                "name": "table",
                "datatype": "FP32",
                "shape": [1, 1, FLOATS],
                "parameters": {"binary_data_size": 4 * FLOATS},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
).encode()
LARGE: Final = HEAD + bytes(4 * FLOATS)
"""Of the innocent call, and of those whose answers are not read."""

_POST = b"POST /v2/models/take HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
_READY = b"GET /v2/models/take/ready HTTP/1.1\r\nhost: t\r\n\r\n"
_END = b"GET /v2/models/take/ready HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"
_HANDSHAKE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_INFER = b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\n"

KINDS: Final[dict[str, bytes]] = {
    "an upgrade with a body": _POST
    + b'connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 8\r\n\r\n{"n": 7}',
    "the handshake of a WebSocket": _READY.replace(b"\r\n\r\n", b"\r\n" + _HANDSHAKE + b"\r\n"),
    "a handshake with a body": _POST + _HANDSHAKE + b'content-length: 8\r\n\r\n{"n": 7}',
    "trailers": _POST
    + b'transfer-encoding: chunked\r\n\r\n8\r\n{"n": 7}\r\n0\r\n'
    + b"".join(b"x-%d: %b\r\n" % (n, b"a" * 100) for n in range(50))
    + b"\r\n",
    "what is no HTTP": b"\x16\x03\x01 is no HTTP\r\n\r\n",
}
"""What is sent behind a plain request, on a connection of its own."""


def connect(port: int, *, is_small: bool = False) -> socket.socket:
    """A connection to the server, which takes little at once."""
    connection = socket.socket()
    connection.settimeout(60)
    if is_small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    return connection


def send_all(port: int, sent: bytes, count: int) -> None:
    """One connection after the other, each read to its end."""
    for _ in range(count):
        with connect(port) as connection, suppress(ConnectionError):
            connection.sendall(_READY + sent + _END)
            while connection.recv(1 << 16):
                pass


def hold_unread(port: int, count: int) -> None:
    """As many large answers that no client reads, until the server cuts them off."""
    infer = _INFER + b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n"
    for _ in range(max(1, count // HELD)):
        with ExitStack() as stack:
            held = [stack.enter_context(closing(connect(port, is_small=True))) for _ in range(HELD)]
            for connection in held:
                with suppress(OSError):
                    connection.sendall(infer % (len(HEAD), len(LARGE)) + LARGE)
            until = time.monotonic() + 2 * UNREAD_S + 5
            while time.monotonic() < until:
                for connection in held:
                    with suppress(OSError):
                        connection.recv(1)  # by and by, which is no reading
                time.sleep(1)


def innocent_s(client: httpx.Client) -> float:
    """How long a large call takes; endless if it is refused."""
    began = time.perf_counter()
    headers = {"inference-header-content-length": str(len(HEAD))}
    answer = client.post("/v2/models/echo/infer", content=LARGE, headers=headers)
    is_right = answer.status_code == 200 and len(answer.content) > 4 * FLOATS
    return time.perf_counter() - began if is_right else float("inf")


def measured(
    url: str, memory_mb: Callable[[], float], act: Callable[[int, int], None], count: int
) -> tuple[float, float, float]:
    """MB that are left, and the median of a call alone and meanwhile, in seconds."""
    port = urlsplit(url).port
    assert port is not None
    with httpx.Client(base_url=url, timeout=60) as client:
        innocent_s(client)
        act(port, min(count, WARMING))
        before = memory_mb()
        act(port, count)
        time.sleep(1)
        left_mb = memory_mb() - before
        alone_s = statistics.median(innocent_s(client) for _ in range(15))
        thread = threading.Thread(target=act, args=(port, max(HELD, count // 10)))
        thread.start()
        times = [innocent_s(client)]
        while thread.is_alive():
            times.append(innocent_s(client))
            time.sleep(0.1)
        thread.join()
        return left_mb, alone_s, statistics.median(times)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=10_000, show_default=True, help="Connections of each kind.")
@click.option("--only", default="", help="Part of the names of the kinds.")
def main(count: int, only: str) -> None:
    """Make hostile connections of each kind, and measure what they leave and delay."""
    acts: dict[str, tuple[Callable[[int, int], None], int]] = {
        name: (lambda port, n, sent=sent: send_all(port, sent, n), count)  # type: ignore[misc]
        for name, sent in KINDS.items()
    }
    acts["an answer that is not read"] = (hold_unread, max(HELD, count // 1250))
    lines = ["| connection | how many | left, MB | a call alone, meanwhile, ms | x |"]
    lines.append("|---|---|---|---|---|")
    broken = False
    with TemporaryDirectory(prefix="cr-") as folder:
        file = Path(folder, "serve_config.yaml")
        functions = [declared(name, name) for name in ("take", "echo")]
        file.write_text(json.dumps({"applications": [declare.CATALOGUE, *functions]}))
        watched = {"WAKEFUL_ROOT": str(ROOT)} | loops.inserted(Path(folder), ROOT)
        with local(file, free_port(), Path(folder, "log"), watched) as server:

            def memory_mb() -> float:
                (seen,) = loops.looked(Path(folder), []).values()
                return seen.memory_mb

            for name, (act, times) in acts.items():
                if only not in name:
                    continue
                left, alone_s, meanwhile_s = measured(server.url, memory_mb, act, times)
                slower = meanwhile_s / alone_s
                broken |= left > MOST_LEFT_MB or slower > MOST_SLOWER
                lines.append(
                    f"| {name} | {times} | {left:.1f} | {alone_s * 1e3:.0f},"
                    f" {meanwhile_s * 1e3:.0f} | {slower:.2f} |"
                )
                say(lines[-1])
    click.echo("\n".join([heading("python -m loadtests.bounds.crowds"), "", *lines]))
    sys.exit(broken)


if __name__ == "__main__":
    main()

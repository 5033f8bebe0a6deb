"""A server that answers everything with ``{}``, at once or after a delay: what the generator is
measured against, in a process of its own that prints its port, and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final, cast

import uvloop

ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

MODULE: Final = "deployments.loadtest.generator.null_server"

_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@contextlib.contextmanager
def null_server(delay_ms: float = 0.0) -> Iterator[tuple[str, int]]:
    """The server, until the block ends; gives its URL and its process.

    Raises:
        RuntimeError: it does not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(delay_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the command, which ends it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the server that calls are tried on ended with {process.wait(10)}.")
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.stdin.close()
        process.kill()
        process.wait(10)
        process.stdout.close()


class NullProtocol(asyncio.Protocol):
    """One connection.

    Args:
        delay_s: before each answer.

    Mutable state: ``_received``, of a request that is not whole yet.
    """

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received, 0, end)
            length = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < length:
                return
            self._received = self._received[length:]
            if self._delay_s:
                loop = asyncio.get_running_loop()
                loop.call_later(self._delay_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():  # the client may have left meanwhile
            self._transport.write(ANSWER)


async def _serve(delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: NullProtocol(delay_s), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1]) / 1000))

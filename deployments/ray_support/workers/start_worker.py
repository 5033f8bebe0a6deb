"""What Ray starts as a worker on a head that has a fork server (``fork_server``), in place of Ray's
own script: it asks that for the worker, and ends. Whatever is in the way, it becomes the worker
itself, as Ray's script does.

A worker registers under the id that is among its arguments, and by its own process id. So it need
not be the process that Ray has started.

Imports the standard library only, and little of it: it is started for each worker, and most of what
it takes is Python's own start.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

ADDRESS: Final = "_WAKEFUL_FORK_SERVER"
"""The variable with the path of the server's socket."""

READY: Final = b"ready"
"""What the server says first: it takes a request now. An asker that has sent none can start by
itself, whatever the server does.
"""

FORKED: Final = b"forked"
REFUSED: Final = b"refused"
"""What is forked answers, or the server; where the connection is closed without an answer, nothing
that was forked runs.
"""

MESSAGE_BYTES: Final = 160 * 1024
"""Of a request at most: arguments and environment. A larger one is not sent: the system takes some
200 KB at once.
"""

READY_S: Final = 30.0
"""Longest wait for the server, which may be importing still; Ray gives a worker up after 60."""

ANSWER_S: Final = 20.0
"""Longest wait for what is forked: some milliseconds."""

OOM_SCORE: Final = "/proc/self/oom_score_adj"
"""Ray raises it for a worker: where memory ends the system ends workers first."""

STATUS: Final = "/proc/self/status"
"""Says which signals a process has from its parent as blocked or ignored, and which permissions its
files get.
"""


def main() -> None:
    """A worker is running, or this process is it."""
    if not is_forked(sys.argv[1:]):
        run_worker(sys.argv[1:])


def is_forked(arguments: list[str]) -> bool:
    """Whether the server has forked a worker that has these arguments, and this process's
    environment, folder and standard streams.

    Raises:
        SystemExit: the server has the request and does not answer: it may fork the worker yet, and
            a second one would not be known to Ray.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.settimeout(READY_S)
        try:
            request = {
                "arguments": arguments,
                "environment": dict(os.environ),
                "folder": os.getcwd(),
                "oom_score": _read(OOM_SCORE),
            }
            ask(server, os.environ[ADDRESS], request, (0, 1, 2))
        except (KeyError, OSError):
            return False
        server.settimeout(ANSWER_S)
        try:
            return server.recv(len(REFUSED)) == FORKED
        except TimeoutError:
            raise SystemExit(f"{os.environ[ADDRESS]} has not answered in {ANSWER_S} s") from None
        except OSError:
            return False


def ask(
    server: socket.socket, address: str, request: Mapping[str, Any], streams: Sequence[int]
) -> None:
    """Send a request to the server at an address; what answers it has these standard streams, and
    the signals and permissions of this process.

    Raises:
        OSError: nothing was sent: there is no server, it is not ready in time, or the request is
            too long.
    """
    whole = {**request, "python": sys.executable, "status": _read(STATUS)}
    message = json.dumps(whole).encode()
    if len(message) > MESSAGE_BYTES:
        raise OSError(f"a request of {len(message)} bytes is too long")
    server.connect(address)
    if server.recv(len(READY)) != READY:
        raise OSError("the server takes no request")
    socket.send_fds(server, [message], streams)


def run_worker(arguments: list[str]) -> None:
    """Run Ray's script in this process, as if it had been started with these arguments."""
    import runpy  # only here, and so not in what asks the server

    script = worker_script()
    sys.argv = [script, *arguments]
    import_as(script)
    runpy.run_path(script, run_name="__main__")


def worker_script() -> str:
    """Ray's own; Ray is not imported."""
    from importlib.util import find_spec

    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return os.path.join(os.path.dirname(found.origin), "_private", "workers", "default_worker.py")


def import_as(script: str) -> None:
    """Import from where this script would: Python looks in the folder of what it runs first."""
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = os.path.dirname(script)


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""


if __name__ == "__main__":
    main()

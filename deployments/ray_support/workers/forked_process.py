"""A process of ours that a fork server makes (``fork_server``), as its asker sees it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from deployments.ray_support.workers.start_worker import FORKED, REFUSED, ask

ANSWER_S: Final = 20.0
"""Longest wait for the server, which may be importing still, as what is started would."""


def can_fork() -> bool:
    """Whether this system forks processes that are as if they had been started, and this Python has
    handles of them: one that was built for old systems has none.
    """
    return (
        sys.platform == "linux"
        and hasattr(os, "pidfd_open")
        and hasattr(signal, "pidfd_send_signal")
    )


def fork_socket(folder: str) -> Path:
    """Where the server is asked that forks for the Ray of this folder."""
    return Path(folder, "forks")


class NotForked(Exception):
    """There is no server, or it does not fork this process: it is to be started."""


class ForkedProcess:
    """What a caller needs of ``subprocess.Popen``, of a module that runs in a fork.

    Args:
        server: its socket.
        log: where its standard error goes.

    Raises:
        NotForked: in ``__init__``.
    """

    def __init__(
        self, server: Path, module: str, environment: Mapping[str, str], folder: str, log: Path
    ) -> None:
        with contextlib.ExitStack() as theirs:
            read_input, write_input = os.pipe()
            theirs.callback(os.close, read_input)
            read_output, write_output = os.pipe()
            theirs.callback(os.close, write_output)
            self.stdin: TextIO = os.fdopen(write_input, "w", encoding="utf-8")
            self.stdout: TextIO = os.fdopen(read_output, encoding="utf-8")
            errors = theirs.enter_context(log.open("a", encoding="utf-8"))
            request = {
                "module": module,
                "arguments": [],
                "environment": dict(environment),
                "folder": folder,
            }
            try:
                self._handle = _fork(server, request, (read_input, write_output, errors.fileno()))
            except OSError as error:
                self.stdin.close()
                self.stdout.close()
                raise NotForked(str(error)) from error

    def kill(self) -> None:
        """Ends it, if it has not ended."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float) -> None:
        """Until it has ended, as it does at once when it was killed.

        Raises:
            TimeoutError: it has not after so many seconds.
        """
        ended = select.poll()
        ended.register(self._handle, select.POLLIN)
        if not ended.poll(1000 * timeout):
            raise TimeoutError(f"a process has not ended within {timeout:g} s")

    def __del__(self) -> None:
        """Gives the handle back."""
        if handle := getattr(self, "_handle", None):
            os.close(handle)


def _fork(server: Path, request: Mapping[str, object], streams: tuple[int, int, int]) -> int:
    """The handle of the process.

    Raises:
        OSError: there is none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(ANSWER_S)
        ask(connection, str(server), request, streams)
        said, handles, _, _ = socket.recv_fds(connection, len(REFUSED), 1)
    if said != FORKED or not handles:
        raise OSError(f"the server says {said.decode()!r}")
    return handles[0]

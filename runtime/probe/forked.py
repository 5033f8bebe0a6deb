"""One child of the nursery: a fork in a process group of its own, whose result and output come through pipes."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil

from runtime.footprint import Footprint

WRITTEN_BYTES: Final = 32 * 1024
"""Kept of what a child writes, the last."""

_PR_SET_PDEATHSIG: Final = 1

_VMSTAT: Final = Path("/proc/vmstat")


class Forked:
    """Does ``work`` in a fork of this process, which must have no threads that hold locks.

    Whoever made it reads its pipes as they fill, asks for its ``status`` until there is one, and may ``end`` it.

    Attributes:
        began: when it was forked.
        result: JSON of what ``work`` gave; cut or empty if it did not come to that.
        written: the last of its standard output and error.
        out_of_memory: once it has a status: the system ended a process for want of memory while it ran.
    """

    def __init__(self, work: Callable[[], Mapping[str, Any]]) -> None:
        self.began = time.monotonic()
        self.result = bytearray()
        self.written = bytearray()
        self.out_of_memory = False
        self._oom_kills = _oom_kills()
        (self._result_fd, result), (self._output_fd, output) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _be_child(work, result, output)
        for fd in (result, output):
            os.close(fd)
        for fd in self.fds:
            os.set_blocking(fd, False)

    @property
    def fds(self) -> tuple[int, int]:
        """The pipes to be read."""
        return self._result_fd, self._output_fd

    def read(self, fd: int) -> bool:
        """Takes what is in a pipe; False if nothing is, now or ever."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if fd == self._result_fd:
            self.result += data
        else:
            self.written += data
            del self.written[:-WRITTEN_BYTES]
        return bool(data)

    def held_bytes(self) -> int:
        """Memory of its own; not that of processes which it started."""
        try:
            return Footprint.of(self._pid).own_bytes
        except psutil.Error:
            return 0

    def end(self) -> None:
        """Kills it and what it started; its id stays its own until ``status`` was told."""
        for kill in (os.killpg, os.kill):  # before it has its group, it alone
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self._pid, signal.SIGKILL)

    def status(self) -> int | None:
        """Its exit code, or the negative number of a signal; None while it runs. Once it is told, nothing of it is left."""
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self.end()  # processes that it left behind
        _, status = os.waitpid(self._pid, 0)
        for fd in self.fds:
            while self.read(fd):
                pass
            os.close(fd)
        self.out_of_memory = _oom_kills() > self._oom_kills
        return os.waitstatus_to_exitcode(status)


def _be_child(work: Callable[[], Mapping[str, Any]], result: int, output: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        if sys.platform == "linux":  # should the nursery be killed, nobody bounds its children any more: they go with it
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable(sys.stderr)
        data = json.dumps(work()).encode()
        with os.fdopen(result, "wb") as file:
            file.write(data)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
        _show(error)
    except BaseException as error:  # this process ends here, whatever it is
        _show(error)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _show(error: BaseException) -> None:
    with contextlib.suppress(Exception):
        sys.excepthook(type(error), error, error.__traceback__)


def _oom_kills() -> int:
    """Processes that the system ended for want of memory, ever."""
    try:
        return next((int(line.split()[1]) for line in _VMSTAT.read_text().splitlines() if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0

"""The access log: a line of JSON for each call, without anything of its body.

One file for all processes of a machine. A write is whole lines, appended (``O_APPEND``), so that
lines of two processes never mix. A file that is full is renamed to ``NAME.1``, in place of the one
before, by the first process that finds it so, under a lock of the file; the others see that the
name is another file's now, and open that. So does a file that ``logrotate`` has renamed.
"""

from __future__ import annotations

import fcntl
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from runtime.errors import LoadError
from runtime.system.telemetry.background import BackgroundWriter

STDOUT: Final = Path("-")
"""Instead of a file: standard output."""

PIPE_BYTES: Final = 4096
"""A pipe takes so much in one piece (``PIPE_BUF``, `pipe(7)`)."""

CLOSE_S: Final = 2.0
"""Longest wait for the last lines when the process ends."""


class AccessRecord(NamedTuple):
    """A call that is over. Made on the event loop, so nothing is computed here.

    Attributes:
        at: when its answer was sent, seconds since the epoch.
        request_id: as it came.
        function: its name.
        status: of the answer; 499 where the client left before it.
        code: of the error that it was answered with; empty: of none.
        bytes_in, bytes_out: of the bodies.
        seconds: from its head to its answer's end.
        timings: of its rows, as of ``Call``; None: none was computed.
        rows: that were computed.
        wake_s: seconds that it waited for its function to wake; 0: the function was awake.
        trace_id: of the trace that it is recorded in; 0: in none.
        key: the name of the key that it came with; empty: with none.
    """

    at: float
    request_id: bytes
    function: str
    status: int
    code: str
    bytes_in: int
    bytes_out: int
    seconds: float
    timings: Mapping[str, float] | None
    rows: int
    wake_s: float
    trace_id: int = 0
    key: str = ""

    def to_line(self, replica: bytes) -> bytes:
        """Return the line. It is formatted here, in half of the time that a dictionary and a JSON
        encoder take: the thread that writes it holds the interpreter meanwhile, and calls wait.

        Args:
            replica: names the process, as JSON.
        """
        second = int(self.at)
        line = _LINE % (
            _write_second(second),
            (self.at - second) * 1000,
            orjson.dumps(self.request_id.decode("latin-1")),
            orjson.dumps(self.function),
            self.status,
            self.bytes_in,
            self.bytes_out,
            self.seconds * 1000,
        )
        if self.code:
            line += b',"code":%b' % orjson.dumps(self.code)
        timings = self.timings
        if timings is not None:
            line += _PARTS % (
                self.rows,
                timings["queue"] * 1000,
                timings["batch"] * 1000,
                timings["model"] * 1000,
            )
        if self.wake_s:
            line += b',"wake_ms":%.3f' % (self.wake_s * 1000)
        if self.trace_id:
            line += b',"trace":"%032x"' % self.trace_id
        if self.key:
            line += b',"key":%b' % orjson.dumps(self.key)
        return b'%b,"replica":%b}\n' % (line, replica)


_LINE: Final = (
    b'{"time":"%b.%03dZ","id":%b,"function":%b,"status":%d,"bytes_in":%d,"bytes_out":%d,"ms":%.3f'
)
_PARTS: Final = b',"rows":%d,"queue_ms":%.3f,"batch_ms":%.3f,"model_ms":%.3f'


@functools.lru_cache(maxsize=4)
def _write_second(second: int) -> bytes:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}".encode()


class AccessLog:
    """Writes a line for each record, in a thread.

    Args:
        path: of the file, or ``STDOUT``; its folder is made.
        max_bytes: of the file before it is renamed.
        replica: names this process in each line.
        on_drop: called with how many lines were lost.

    Raises:
        LoadError: the file cannot be written.
    """

    def __init__(
        self, path: Path, max_bytes: int, replica: str, on_drop: Callable[[int], object]
    ) -> None:
        self._replica = orjson.dumps(replica)
        self._file = None if path == STDOUT else AppendedFile(path, max_bytes)
        self._writer: BackgroundWriter[AccessRecord] = BackgroundWriter(
            "access-log", self._write, on_drop
        )
        self.put = self._writer.put

    def close(self) -> None:
        """Write what is queued. Idempotent."""
        self._writer.close(CLOSE_S)

    def _write(self, records: Sequence[AccessRecord]) -> None:
        lines = b"".join([record.to_line(self._replica) for record in records])
        if self._file is not None:
            self._file.append(lines)
            return
        for part in whole_lines(lines):
            sys.stdout.write(part.decode())
            sys.stdout.flush()


def whole_lines(lines: bytes) -> Iterator[bytes]:
    """Yield the lines in parts that a pipe takes in one piece: several processes may write to one.
    A longer line is a part of its own.
    """
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + PIPE_BYTES) + 1
        end = end or lines.find(b"\n", start) + 1 or len(lines)
        yield lines[start:end]
        start = end


class AppendedFile:
    """A file that several processes append whole lines to, and rename when it is full.

    Args:
        max_bytes: before it is renamed; one write may go beyond.

    Mutable state: ``_descriptor``, of the file that had the name when it was opened.

    Raises:
        LoadError: it cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._previous = path.with_name(f"{path.name}.1")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._open()
        except OSError as error:
            raise LoadError(
                f"the access log {path} cannot be written: {error.strerror}. Name another file in "
                "WAKEFUL_ACCESS_LOG, or unset it."
            ) from error

    def append(self, lines: bytes) -> None:
        """Write whole lines.

        Raises:
            OSError: the disk is full, or the folder gone.
        """
        if not self._has_name():
            self._reopen()
        elif os.fstat(self._descriptor).st_size >= self._max_bytes:
            self._rotate()
        rest = memoryview(lines)
        while rest:  # a disk that is nearly full takes a part
            rest = rest[os.write(self._descriptor, rest) :]

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _has_name(self) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _reopen(self) -> None:
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _rotate(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        # another process may have renamed it while this one waited for the lock
        if self._has_name():
            self._path.replace(self._previous)
        self._reopen()  # the lock ends with the descriptor

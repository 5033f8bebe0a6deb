"""Copies what a process prints to a file of bounded size, each line with the time and the function
that printed it, as the output files of replicas have it (``runtime.system.function_context``).
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO, cast

from runtime.system.function_context import StampedStream

_CLOSED: Final = -1
"""Instead of an open file: nothing can be written to it."""


class CappedFile(io.TextIOBase):
    """A file that is moved to ``<name>.1`` when it is full. Several processes may write it: each
    writes whole texts to its end, and opens it anew when another has moved it.

    A full disk raises nothing: what is printed is still on the terminal.

    Args:
        path: created, readable by its owner only.
        most_bytes: of the file, and as many again of the one before.

    Mutable state, under the lock: ``_file``.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, text: str) -> int:
        """Append it."""
        with self._lock, contextlib.suppress(OSError):
            os.write(self._file, text.encode(errors="replace"))
            if os.fstat(self._file).st_size > self._most_bytes:
                self._move()
        return len(text)

    def _move(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                self._path.replace(f"{self._path}.1")
        opened = self._open()  # first: the number of a closed file is soon another one's
        os.close(self._file)
        self._file = opened

    def writable(self) -> bool:
        """Return True, which the base class does not."""
        return True

    def close(self) -> None:
        """Idempotent. What is written afterwards is dropped."""
        with self._lock:
            if not self.closed:
                os.close(self._file)
                self._file = _CLOSED
                super().close()


class CopiedStream(io.TextIOBase):
    """Writes to a stream as it is, and to a file with a stamp.

    Args:
        stream: of the process.
        kind: ``OUT`` or ``ERR``.
        hide: takes secrets out of what goes to the file.
    """

    def __init__(
        self, stream: TextIO, file: CappedFile, kind: str, hide: Callable[[str], str]
    ) -> None:
        self._stream = stream
        self._copy = StampedStream(cast("TextIO", file), kind, "run", hide)

    def write(self, text: str) -> int:
        """To the stream first."""
        written = self._stream.write(text)
        self._copy.write(text)
        return written

    def flush(self) -> None:
        """Flush the stream; the file has no buffer."""
        self._stream.flush()

    def writable(self) -> bool:
        """Return True, which the base class does not."""
        return True

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's own descriptor, for libraries that write past Python; those lines are not
        copied.
        """
        return self._stream.fileno()

    @property
    def buffer(self) -> object:
        """The stream's own, for those that write bytes; they are not copied."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute of the base
        """The stream's, by which click decides what to draw."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # likewise
        """The stream's; click wraps a stream without it anew, past this one."""
        return self._stream.errors

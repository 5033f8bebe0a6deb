"""What a replica's stages print, with the time and the function on it, in the replica's own output files.

Ray Serve's own redirect (without ``RAY_SERVE_LOG_TO_STDERR``) walks the stack for every line, keeps a thousand of them back, and
drops all of them below its log level.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from runtime.speaker import SPEAKER


class Stamped(io.TextIOBase):
    """A stream that begins each line with ``OUT 2026-01-31 10:00:00,123 embed 4711 --``; a text of several lines is one record. In a
    host that many functions share, the name is of the one that writes.

    Mutable state, under the lock: ``_begins`` (whether the next text begins a line).
    """

    def __init__(self, stream: TextIO, kind: str, name: str, hide: Callable[[str], str] = str) -> None:
        self._stream = stream
        self._hide = hide
        self._kind = kind
        self._name = name
        self._begins = True
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Written at the end of each line, so that a killed replica's last words are there."""
        if text:
            with self._lock:
                self._stream.write((self._stamp() if self._begins else "") + self._hide(text))
                self._begins = text.endswith("\n")
                if self._begins:
                    self._stream.flush()
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def flush(self) -> None:
        """The stream below."""
        self._stream.flush()

    def fileno(self) -> int:
        """The stream's own, for those who write past Python."""
        return self._stream.fileno()

    def _stamp(self) -> str:
        now = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
        return f"{self._kind} {now} {SPEAKER.get() or self._name} {os.getpid()} -- "


def stamp(name: str, hide: Callable[[str], str] = str) -> None:
    """From now on everything that this process prints, and what our loggers say, bears a name and the time; twice is once.

    Args:
        hide: takes out of a text what is nobody's to read.
    """
    if not isinstance(sys.stdout, Stamped):
        sys.stdout = Stamped(sys.stdout, "OUT", name, hide)
        sys.stderr = Stamped(sys.stderr, "ERR", name, hide)
        ours = logging.getLogger("wakeful")
        ours.addHandler(logging.StreamHandler())
        ours.setLevel(logging.INFO)
        ours.propagate = False


class Hiding(logging.Formatter):
    """Log lines without what is nobody's to read, for a process whose output is not stamped."""

    def __init__(self, hide: Callable[[str], str]) -> None:
        super().__init__("%(message)s")
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Traceback included."""
        return self._hide(super().format(record))

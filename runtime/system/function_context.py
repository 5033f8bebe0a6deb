"""The function whose code a thread or a task runs: what it prints carries its name, and none of its
tasks ends the event loop.

Lines that stages print carry the time and the function, in the output files of the replica. Ray
Serve's own redirect (without ``RAY_SERVE_LOG_TO_STDERR``) walks the stack for every line, keeps a
thousand of them back, and drops those below its log level.

asyncio raises ``SystemExit`` and ``KeyboardInterrupt`` out of any task into the loop, which ends
with all its tasks. A stage's coroutine could catch them, but not in the tasks that it starts
itself, for a ``gather``; ``contain`` makes them errors of their tasks.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, TextIO

CURRENT_FUNCTION: Final[ContextVar[str]] = ContextVar("speaker", default="")
"""A function's name; empty in code that is no function's. Set by worker threads, and by the tasks
that load or run coroutines.
"""


_LIKE_A_STAMP: Final = re.compile(r"\n(?=\w+ \d{4}-\d\d-\d\d \d\d:)")
"""The end of a line before one that would pass for the beginning of a record."""


class StampedStream(io.TextIOBase):
    """A stream that begins each line with ``OUT 2026-01-31 10:00:00,123 embed 4711 --``; a text of
    several lines is one record. In a host that many functions share, the name is of the one that
    writes.

    Mutable state, under the lock: ``_begins`` (whether the next text begins a line).
    """

    def __init__(
        self, stream: TextIO, kind: str, name: str, hide: Callable[[str], str] = str
    ) -> None:
        self._stream = stream
        self._hide = hide
        self._kind = kind
        self._name = name
        self._begins = True
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Written at the end of each line, so that a killed replica's last words are there."""
        if text:
            shown = self._hide(text)
            if "\n" in text[:-1]:
                # what a caller sent may stand in a traceback; it begins no record
                shown = _LIKE_A_STAMP.sub(r"\g<0> ", shown)
            with self._lock:
                self._stream.write((self._stamp() if self._begins else "") + shown)
                self._begins = text.endswith("\n")
                if self._begins:
                    self._stream.flush()
        return len(text)

    def writable(self) -> bool:
        """Return True, which the base class does not."""
        return True

    def flush(self) -> None:
        """The stream below."""
        self._stream.flush()

    def fileno(self) -> int:
        """The stream's own descriptor, for libraries that write past Python."""
        return self._stream.fileno()

    def _stamp(self) -> str:
        now = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
        return f"{self._kind} {now} {CURRENT_FUNCTION.get() or self._name} {os.getpid()} -- "


def stamp_output(name: str, hide: Callable[[str], str] = str, level: str = "WARNING") -> None:
    """From now on everything that this process prints, and what our loggers say, bears a name and
    the time; twice is once.

    Args:
        hide: takes secrets out of a text.
        level: from which on what stages log is shown.
    """
    if not isinstance(sys.stdout, StampedStream):
        sys.stdout = StampedStream(sys.stdout, "OUT", name, hide)
        sys.stderr = StampedStream(sys.stderr, "ERR", name, hide)
        ours = logging.getLogger("wakeful")
        ours.addHandler(OutputHandler())
        ours.setLevel(logging.INFO)
        ours.propagate = False
        show_logs(level)


class OutputHandler(logging.Handler):
    """Writes records to the streams that the process has when they come: warnings and errors to
    standard error, all others to standard output, so that a wake is not marked as an error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """As one text, which a stamped stream takes for one record."""
        try:
            stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)


class HidingFormatter(logging.Formatter):
    """Formats log lines without secrets: of Wakeful's own the message, of all others with their
    level and logger, ``INFO iris: two rows``.
    """

    def __init__(self, hide: Callable[[str], str] = str) -> None:
        super().__init__("%(message)s")
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Traceback included."""
        text = super().format(record)
        if not record.name.startswith("wakeful"):
            text = f"{record.levelname} {record.name}: {text}"
        return self._hide(text)


def show_logs(level: str, hide: Callable[[str], str] = str) -> logging.Handler:
    """From now on show what stages and their libraries log at a level or above it; returns the
    handler, which the caller may remove. Wakeful's own loggers tell no more than before, but at
    ``DEBUG``.
    """
    shown = OutputHandler()
    shown.setFormatter(HidingFormatter(hide))
    # Ray's have handlers of their own in its processes
    shown.addFilter(lambda record: record.name.partition(".")[0] != "ray")
    root, ours = logging.getLogger(), logging.getLogger("wakeful")
    root.addHandler(shown)
    root.setLevel(level)
    if ours.level == logging.NOTSET and level == "INFO":
        ours.setLevel(logging.WARNING)
    return shown


TaskFactory = Callable[..., "asyncio.Future[Any]"]
"""As ``loop.set_task_factory`` takes it."""


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, tasks of this loop that a function's code starts are contained. Idempotent."""
    make: TaskFactory | None = loop.get_task_factory()
    if not isinstance(make, _Containing):
        loop.set_task_factory(_Containing(make))


class _Containing:
    """A task factory around another."""

    def __init__(self, make: TaskFactory | None) -> None:
        self._make = make

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any
    ) -> asyncio.Future[Any]:
        if CURRENT_FUNCTION.get() and asyncio.iscoroutine(coro):
            coro = _Contained(coro)
        return (
            asyncio.Task(coro, loop=loop, **more)
            if self._make is None
            else self._make(loop, coro, **more)
        )


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises ``RuntimeError`` where the inner one would end the loop. It is not an
    ``async def`` around the inner one, which would never start where the task is cancelled before
    it begins.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:  # cr_frame and the like, where the task is printed
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        """See ``collections.abc.Coroutine``."""
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"it raised {error!r}") from error

    def throw(self, *raised: Any) -> Any:
        """See ``collections.abc.Coroutine``."""
        try:
            return self._inner.throw(*raised)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"it raised {error!r}") from error

    def close(self) -> None:
        """See ``collections.abc.Coroutine``."""
        self._inner.close()

"""The calls of one process on their way into files: which functions are captured, at which rate,
and the thread that makes lines of what was kept and hands them to a store.

Nothing waits for it. What it is behind with is bounded in calls and in bytes; beyond that calls are
lost, and counted by function.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.files import CaptureFile, delete_expired
from runtime.library.capture.lines import EndedCall, call_line
from runtime.library.capture.recorder import FunctionRecorder
from runtime.library.capture.reordering import ReorderBuffer, TimedLine
from runtime.system.secrets import Secrets
from runtime.system.telemetry.background import BackgroundWriter
from runtime.system.telemetry.counters import ProcessCounters

logger = logging.getLogger("wakeful.capture")

MAX_QUEUED: Final = 4000
"""Calls that wait to be written; a second of the most that are recorded in a second."""

MAX_QUEUED_BYTES: Final = 32 << 20
"""Of their headers, bodies and answers."""

MAX_HELD_BYTES: Final = 32 << 20
"""Of lines that a process holds so that they leave in order; beyond it all leave before their time.
"""

TICK_S: Final = 1.0
"""Between two looks of the thread at what it holds, where no call comes."""

WINDOW_S: Final = 2.0
"""How long a line is held from its call's arrival, so that the lines of a file are in order: most
calls are over by then.
"""

EXPIRE_S: Final = 60.0
"""Between two looks for parts that are too old."""

WARN_S: Final = 60.0
"""Between two lines of log that say that calls are not recorded."""

CLOSE_S: Final = 2.0
"""Longest wait for the last lines when the process ends."""

LINES_AT_ONCE: Final = 64
BYTES_AT_ONCE: Final = 256 << 10
"""That the thread makes in one go: half a millisecond in which it has the interpreter."""


@dataclass(frozen=True, slots=True)
class CapturedFunction:
    """A function that may be captured.

    Attributes:
        version: its version hash.
        has_sequences: as of ``FunctionRecorder``.
    """

    name: str
    prefix: str
    spec: CaptureSpec
    version: str
    has_sequences: bool

    @classmethod
    def of(cls, spec: FunctionSpec) -> CapturedFunction:
        """As it is declared."""
        return cls(
            spec.name,
            spec.route_prefix,
            spec.capture,
            version_hash(spec),
            spec.sequences is not None,
        )


class Order(NamedTuple):
    """What an operator has said of a function.

    Attributes:
        rate: from 0 to 1.
        until: seconds since the epoch.
    """

    rate: float
    until: float


class CaptureStore(Protocol):
    """Keeps lines. Used by one thread."""

    def declare(self, functions: Mapping[str, CapturedFunction]) -> bool:
        """These functions may be captured; called on the event loop. Return whether there is what
        has to be looked after, though nothing is recorded.
        """

    def add(self, function: str, lines: Sequence[TimedLine]) -> None:
        """Keep these, or count them as lost."""

    def tick(self, now: float) -> None:
        """Do what is due at this time, seconds since the epoch; infinity: the process ends."""


class FileStore:
    """Implements ``CaptureStore``: a file for each function in a folder of this machine.

    Args:
        counters: of the process, where what was written and lost is counted.

    Mutable state: ``_functions``; by name ``_files`` and ``_buffers``; ``_expired_at``.
    """

    def __init__(
        self,
        folder: Path,
        counters: ProcessCounters,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._counters = counters
        self._clock = clock
        self._functions: Mapping[str, CapturedFunction] = {}
        self._files: dict[str, CaptureFile] = {}
        self._buffers = defaultdict[str, ReorderBuffer](lambda: ReorderBuffer(window_s))
        self._expired_at = 0.0

    def declare(self, functions: Mapping[str, CapturedFunction]) -> bool:
        """See ``CaptureStore``: files of before grow too old."""
        self._functions = functions
        return self.folder.is_dir()

    def add(self, function: str, lines: Sequence[TimedLine]) -> None:
        """See ``CaptureStore``."""
        self._buffers[function].add(lines)
        if sum(buffer.size for buffer in self._buffers.values()) > MAX_HELD_BYTES:
            self._append_due(math.inf)

    def tick(self, now: float) -> None:
        """See ``CaptureStore``."""
        self._append_due(now)
        if now == math.inf:
            for file in self._files.values():
                file.close()
        elif abs(now - self._expired_at) >= EXPIRE_S:  # the clock may be set back
            self._expired_at = now
            keep_s = {name: one.spec.keep_s for name, one in self._functions.items()}
            delete_expired(self.folder, keep_s, now)

    def _append_due(self, now: float) -> None:
        for function, buffer in self._buffers.items():
            if lines := buffer.take(now):
                self._append(function, [line for _, line in lines])

    def _append(self, function: str, lines: Sequence[bytes]) -> None:
        captured = self._functions.get(function)
        if captured is None:  # it has gone from the declarations meanwhile
            self._counters.of(function).record_capture(0, len(lines))
            return
        lost = self._file(function, captured).append(lines)
        self._counters.of(function).record_capture(len(lines) - lost, lost)

    def _file(self, function: str, captured: CapturedFunction) -> CaptureFile:
        file = self._files.get(function)
        if file is None:
            file = CaptureFile(self.folder, function, captured.spec, captured.version, self._clock)
            self._files[function] = file
        file.spec, file.version = captured.spec, captured.version
        return file


class _Queued(NamedTuple):
    """What the thread is to keep.

    Attributes:
        name: of the function.
        size: bytes that it holds.
        call: to be made into a line; None: there is none.
        lines: that are made already.
    """

    name: str
    size: int
    call: tuple[FunctionRecorder, EndedCall] | None = None
    lines: Sequence[TimedLine] = ()


class Captures:
    """What of a process's functions is recorded. Used on its event loop.

    Args:
        counters: of the process; what is captured is said there (``FunctionCounters.recorder``).
        store: keeps their lines.
        secrets: of the process: those that were asked for are hidden. None: there are none.
        random: as of ``FunctionRecorder``.

    Attributes:
        functions: that may be captured, by name.

    Mutable state: ``functions`` and ``_recorders`` by name; ``_orders`` of operators, with
    ``_timers`` that end them; ``_writer``, from the first call that is captured on;
    ``_put_bytes`` (by the event loop) and ``_written_bytes`` (by the thread), whose difference is
    queued; ``_is_closing``; ``_warned``, when it last did.
    """

    def __init__(
        self,
        counters: ProcessCounters,
        store: CaptureStore,
        secrets: Secrets | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._counters = counters
        self._store = store
        self._secrets = Secrets() if secrets is None else secrets
        self._random = random
        self.functions: Mapping[str, CapturedFunction] = {}
        self._recorders: dict[str, FunctionRecorder] = {}
        self._orders: dict[str, Order] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._writer: BackgroundWriter[_Queued] | None = None
        self._put_bytes = self._written_bytes = 0
        self._is_closing = False
        self._warned = -math.inf

    def declare(self, functions: Iterable[CapturedFunction]) -> None:
        """These functions are served from now on."""
        self.functions = {one.name: one for one in functions}
        if self._store.declare(self.functions):
            self._start_writer()
        for name in self._orders.keys() - self.functions.keys():
            self._forget(name)
        for name in self._recorders.keys() | self.functions.keys():
            self._apply(name)

    def order(self, orders: Mapping[str, Order]) -> None:
        """These orders hold, and no others; those that are over are none."""
        now = time.time()
        wanted = {
            name: order
            for name, order in orders.items()
            if order.until > now and name in self.functions
        }
        if wanted == self._orders:
            return
        for name in self._orders.keys() | wanted.keys():
            if self._orders.get(name) != wanted.get(name):
                self._forget(name)
                if name in wanted:
                    self._take(name, wanted[name], now)
                self._apply(name)

    @property
    def orders(self) -> Mapping[str, Order]:
        """That hold now, by function."""
        return self._orders

    def rate_of(self, name: str) -> float:
        """Return the share of a function's calls that is recorded now."""
        order = self._orders.get(name)
        return self.functions[name].spec.rate if order is None else order.rate

    def recorder_of(self, name: str) -> FunctionRecorder | None:
        """Return what decides on a function's calls; None: none is recorded."""
        return self._recorders.get(name)

    def close(self) -> None:
        """Write what is queued, for ``CLOSE_S`` at most; calls that end from now on are lost.
        Idempotent. Blocks, so it is called in a thread, where the event loop's timers, which are
        not ended by this, must not be touched.
        """
        self._is_closing = True
        if self._writer is not None:
            self._writer.close(CLOSE_S)

    def _take(self, name: str, order: Order, now: float) -> None:
        self._orders[name] = order
        self._timers[name] = asyncio.get_running_loop().call_later(
            order.until - now, self._on_end, name
        )

    def _on_end(self, name: str) -> None:
        if not self._is_closing:
            self._forget(name)
            self._apply(name)

    def _forget(self, name: str) -> None:
        self._orders.pop(name, None)
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _apply(self, name: str) -> None:
        """Have the function's calls recorded at the rate that holds."""
        captured = self.functions.get(name)
        rate = 0.0 if captured is None else self.rate_of(name)
        if captured is None or not rate:
            self._recorders.pop(name, None)
            if (counters := self._counters.find(name)) is not None:
                counters.recorder = None
            return
        recorder = self._recorders.get(name)
        if recorder is None:
            recorder = self._recorders[name] = FunctionRecorder(
                name,
                captured.prefix,
                captured.spec,
                self._put,
                self._random,
                has_sequences=captured.has_sequences,
            )
        recorder.prefix, recorder.spec = captured.prefix, captured.spec
        recorder.has_sequences, recorder.rate = captured.has_sequences, rate
        self._counters.of(name).recorder = recorder
        self._start_writer()

    def _start_writer(self) -> BackgroundWriter[_Queued]:
        if self._writer is None:
            self._writer = BackgroundWriter(
                "capture", self._write, _ignore, max_queued=MAX_QUEUED, idle_s=TICK_S
            )
        return self._writer

    # Calls that are over.

    def _put(self, recorder: FunctionRecorder, call: EndedCall) -> None:
        """On the event loop, of each call that is recorded."""
        size = sum(map(len, call.answer)) + sum(map(len, call.fields.values()))
        if call.body is not None:
            size += len(call.body)
        self._queue(_Queued(recorder.name, size, (recorder, call)), 1)

    def put_lines(self, name: str, lines: Sequence[TimedLine]) -> None:
        """Keep lines that another process has made."""
        size = sum(len(line) for _, line in lines)
        self._queue(_Queued(name, size, lines=lines), len(lines))

    def _queue(self, queued: _Queued, calls: int) -> None:
        writer = self._start_writer()
        is_behind = self._put_bytes - self._written_bytes + queued.size > MAX_QUEUED_BYTES
        if is_behind or writer.is_full or self._is_closing:
            self._counters.of(queued.name).record_capture(0, calls)
            return
        self._put_bytes += queued.size
        writer.put(queued)

    def _write(self, records: Sequence[_Queued]) -> None:
        """In the thread."""
        lines: defaultdict[str, list[TimedLine]] = defaultdict(list)
        count = size = 0
        for queued in records:
            lines[queued.name] += queued.lines
            if queued.call is not None and (line := self._make_line(*queued.call)):
                lines[queued.name].append(TimedLine(queued.call[1].at, line))
            self._written_bytes += queued.size
            count, size = count + 1, size + queued.size
            if count >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                count = size = 0
                time.sleep(0)  # the event loop has its turn
        for name, made in lines.items():
            self._store.add(name, made)
        self._store.tick(math.inf if self._is_closing else time.time())

    def _make_line(self, recorder: FunctionRecorder, call: EndedCall) -> bytes:
        """Return the line of a call; empty: it is lost."""
        try:
            hide = self._secrets.hide if self._secrets.is_any_told else None
            return call_line(call, recorder.spec, hide)
        except Exception as error:  # whatever a body is; calls go on
            self._counters.of(recorder.name).record_capture(0, 1)
            now = time.monotonic()
            if now - self._warned >= WARN_S:  # clients may send many of the kind
                self._warned = now
                name = type(error).__name__  # its message may have what is not to be told
                logger.warning("calls of %s are not recorded: %s", recorder.name, name)
            return b""


def _ignore(lost: int) -> None:
    """``_put`` has looked before that there is room, and ``_write`` raises nothing."""

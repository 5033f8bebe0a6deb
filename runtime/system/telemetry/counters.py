"""What is counted of each function in one process.

A labelled metric of prometheus_client costs a dictionary, a tuple, a lock and a method call for
each number, ten times as much as the number: so calls add to plain attributes of one object a
function, found once, and ``runtime.system.telemetry.metrics`` reads them when it is asked.

Theory of operation: a number is written by the event loop, or by worker threads under one lock, and
never by both. A reader on the event loop sees each number whole; two numbers of one function may be
a call apart. There is one object for each name of the file, which outlives the function: a function
that sleeps and wakes goes on counting where it was.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Sized
from typing import Final, Protocol

from runtime.system.telemetry.key_counts import KeyCounts
from runtime.system.telemetry.trace import CallTrace

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0
)  # fmt: skip
"""Upper bounds of the buckets of seconds. Two or three a decade: a quantile read from them is right
within a factor of two, and each bucket is one series more for every function.
"""

ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Upper bounds of the buckets of batch sizes."""

FAILED: Final = 400
"""Statuses from here on are errors."""

DISCONNECTED: Final = 499
"""The code of a call whose client left before the answer, as nginx writes it."""

MAX_CODES: Final = 64
"""Codes of errors that are counted apart, of one function. Ours are half as many; an error class of
the function's own may have any.
"""

OTHER_CODE: Final = "other"


def told_apart(code: str, known: Collection[str]) -> str:
    """Return the code that an error of a function is counted by, where these are already."""
    return code if code in known or len(known) < MAX_CODES else OTHER_CODE


class Distribution:
    """How numbers are spread: a count for each bucket, and their sum.

    Args:
        bounds: upper bounds of the buckets, rising; one more bucket takes what is above all.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one number."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_many(self, value: float, count: int) -> None:
        """Count a number so many times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def merge(self, other: Distribution) -> None:
        """Count all that another one of the same bounds has counted."""
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class BatchRow(Protocol):
    """A row of a batch. ``padded_size``: values of its tensors that may be padded; 0: none may."""

    @property
    def padded_size(self) -> int: ...


class Admission(Protocol):
    """``calls``: accepted and not answered."""

    @property
    def calls(self) -> int: ...


class CountedFunction(Protocol):
    """A loaded function, as far as it is looked at when metrics are asked for."""

    @property
    def in_flight(self) -> Admission: ...
    @property
    def waiting_rows(self) -> int: ...


class ComputedCall(Protocol):
    """As of ``runtime.batching.calls.Call``."""

    @property
    def started(self) -> float: ...
    @property
    def timings(self) -> Mapping[str, float]: ...
    @property
    def rows(self) -> Sized: ...


class CallRecord:
    """What is told of one request over HTTP once it is over: to the counts, the access log, traces,
    recordings, and the log of failures. Its handler and its transport write it.

    Attributes:
        method, path, id_bytes: of the request.
        began: when it arrived, seconds of ``time.monotonic``.
        counters: of the function that it calls; None: it calls none.
        trace: that it belongs to; None: there are no traces.
        recording: what is kept of it to be recorded; None: it is not.
        call: what it was computed as, once that is done; None: nothing was, or not yet.
        received_bytes: of its body, as far as that was read; known at its end.
        status, code, sent_bytes: of the answer; 0 and empty before.
        reason: the message of the error that it was answered with; empty: of none.
        wake_s: seconds that it waited for its function to wake.
        key: the name of the key that it came with; empty: with none.

    Mutable state: all of these.
    """

    # defaults of the class: most are changed once, or never
    counters: FunctionCounters | None = None
    trace: CallTrace | None = None
    recording: CallRecording | None = None
    call: ComputedCall | None = None
    received_bytes = 0
    status = 0
    code = ""
    sent_bytes = 0
    reason = ""
    wake_s = 0.0
    key = ""

    def __init__(self, method: str, path: str, id_bytes: bytes) -> None:
        self.method = method
        self.path = path
        self.id_bytes = id_bytes
        self.began = time.monotonic()


OnAnswered = Callable[[str, CallRecord], None]
"""Called on the event loop with the function's name and each call of it that is over."""

OnFailed = Callable[[str, CallRecord], None]
"""Called on the event loop with each request that was answered with an error, and the name of the
function that it called; empty: none.
"""

BeginTrace = Callable[[Mapping[bytes, bytes]], CallTrace]
"""Called on the event loop with the headers of each call that arrives."""


class StageCounters:
    """The batches of one stage. Mutable state: as of ``FunctionCounters``, under its lock.

    Attributes:
        sizes: by rows of a batch, at most ``max_batch_size`` of them: how many batches, and their
            seconds.
        values: of the tensors that were run, where rows of different lengths share a batch.
        padding: those of them that no row gave.
        counted_in: ``sizes``, and those of a function that are counted besides (``final_batches``).
    """

    __slots__ = ("counted_in", "padding", "sizes", "values")

    def __init__(self) -> None:
        self.sizes: dict[int, tuple[int, float]] = {}
        self.counted_in: tuple[dict[int, tuple[int, float]], ...] = (self.sizes,)
        self.values = 0
        self.padding = 0

    @property
    def batch_rows(self) -> Distribution:
        """The sizes of its batches, in any thread."""
        spread = Distribution(ROWS)
        for rows, (count, _) in list(self.sizes.items()):
            spread.add_many(rows, count)
        return spread


class CallRecording(Protocol):
    """What is kept of a call that is recorded; see ``runtime.library.capture.recorder``."""

    age_s: float
    sequence: str
    knows_wake: bool

    def keep_route(self, path: str, route: str, known: Collection[str] | None) -> None: ...
    def keep_answer(self, buffers: Sequence[bytes | memoryview], kind: str) -> None: ...
    def begin_parts(self, kind: str) -> None: ...
    def keep_parts(self, texts: Sequence[bytes]) -> None: ...
    def end_parts(self) -> None: ...
    def end(
        self, record: CallRecord, fields: Mapping[bytes, bytes], body: bytes | memoryview | None
    ) -> None: ...


class CallRecorder(Protocol):
    """As of ``runtime.library.capture.recorder.FunctionRecorder``."""

    def begin(self) -> CallRecording | None: ...


class CallCounts:
    """The calls of one function over HTTP. Mutable state: all of it, on the event loop.

    Attributes:
        codes: by status.
        errors: those that were answered with an error, by its ``code``.
        total_s, queue_s, batch_s, model_s: seconds of the calls, and of their parts.
        before_s, behind_s: seconds of stages before and behind the models.
        failed_s: seconds of the calls that were answered with an error.
        answered_at: when the last of them was over, as of ``time.monotonic``; 0: there was none.
    """

    __slots__ = (
        *("codes", "errors", "total_s", "queue_s", "batch_s", "model_s"),
        *("before_s", "behind_s", "failed_s", "answered_at", "_unbatched", "_unbatched_from"),
    )

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.errors: dict[str, int] = {}
        self.total_s = Distribution(SECONDS)
        self.queue_s = Distribution(SECONDS)
        self.batch_s = Distribution(SECONDS)
        self.model_s = Distribution(SECONDS)
        self.before_s = self.behind_s = self.failed_s = self.answered_at = 0.0
        self._unbatched = 0
        self._unbatched_from: int | None = 0

    @property
    def computed(self) -> int:
        """Those whose rows were computed."""
        return sum(self.queue_s.counts)

    @property
    def unbatched(self) -> int:
        """Those of them that a version computed of which no stage runs batches."""
        begun = self._unbatched_from
        return self._unbatched + (0 if begun is None else self.computed - begun)

    def begin_version(self, *, runs_batches: bool) -> None:
        """From now on a version computes them of which a stage runs batches, or none does."""
        self._unbatched = self.unbatched
        self._unbatched_from = None if runs_batches else self.computed

    def record(
        self, status: int, code: str, seconds: float, timings: Mapping[str, float] | None
    ) -> None:
        """Count a call that is over now.

        Args:
            status: of the answer; 0: its head was not sent.
            code: of the error that it was answered with; empty: of none.
            timings: of its rows, by the names of ``runtime.batching.calls.TIMINGS``; None: none of
                them was computed.
        """
        codes = self.codes
        status = status or DISCONNECTED
        codes[status] = codes.get(status, 0) + 1
        self.total_s.add(seconds)
        if timings is not None:
            self.queue_s.add(timings["queue"])
            self.batch_s.add(timings["batch"])
            self.model_s.add(timings["model"])
            self.before_s += timings["preprocess"]
            self.behind_s += timings["postprocess"]
        if status >= FAILED:
            self.failed_s += seconds
        if code:
            code = told_apart(code, self.errors)
            self.errors[code] = self.errors.get(code, 0) + 1


class FunctionCounters:
    """The counts of one function.

    Attributes:
        calls: those over HTTP.
        rows: that were accepted, from calls over HTTP and from other functions.
        worker_s: seconds that worker threads have run its stages.
        stages: by name, those that run batches.
        final_batches: as of ``StageCounters.sizes``, of the last of these, in every version.
        wakes, wake_s: cold starts, and their seconds.
        hangs: batches that stages did not return from in time.
        memory_bytes: that it holds now; 0 while it is not loaded.
        function: while it is loaded.
        on_answered: called with each call over HTTP that is over; None: the counters keep it.
        on_failed: called with each of them that was answered with an error; likewise.
        begin_trace: called with the headers of each; None: there are no traces.
        recorder: decides whether a call is recorded; None: none is.
        captured, capture_lost: calls that were recorded, and that were to be and could not.

    Mutable state: all of these. ``worker_s``, what is in ``stages`` and ``final_batches``,
    ``captured`` and ``capture_lost`` is written under ``_lock``,
    ``rows`` and ``hangs`` under the lock of the workers, everything else on the event loop.
    """

    __slots__ = (
        *("_byte_s", "_held_since", "_lock"),
        *("begin_trace", "calls", "capture_lost", "captured", "final_batches", "function"),
        *("hangs", "memory_bytes", "name", "on_answered", "on_failed", "recorder", "rows"),
        *("stages", "wake_s", "wakes", "worker_s"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_answered: OnAnswered | None = None
        self.on_failed: OnFailed | None = None
        self.begin_trace: BeginTrace | None = None
        self.recorder: CallRecorder | None = None
        self.captured = self.capture_lost = 0
        self.calls = CallCounts()
        self.rows = self.wakes = self.hangs = self.memory_bytes = 0
        self.worker_s = self.wake_s = self._byte_s = self._held_since = 0.0
        self.stages: dict[str, StageCounters] = {}
        self.final_batches: dict[int, tuple[int, float]] = {}
        self.function: CountedFunction | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FunctionCounters {self.name}: {self.calls.codes}, {self.rows} rows>"

    @property
    def is_used(self) -> bool:
        """Whether there is anything to tell."""
        return bool(
            self.calls.codes or self.rows or self.wakes or self.captured or self.capture_lost
        ) or (self.function is not None)

    def record_answered(self, answered: CallRecord) -> None:
        """Count a call over HTTP, once it is over, and tell it further."""
        call, now = answered.call, time.monotonic()
        self.calls.answered_at = now
        self.calls.record(
            answered.status,
            answered.code,
            now - answered.began,
            None if call is None else call.timings,
        )
        if answered.code and self.on_failed is not None:
            self.on_failed(self.name, answered)
        if self.on_answered is not None:
            self.on_answered(self.name, answered)

    def declare_stages(self, names: Sequence[str]) -> None:
        """These run batches in the version that is loaded now. They count on where they were; those
        of earlier versions are forgotten, since the page must not grow with every version.
        """
        self.calls.begin_version(runs_batches=bool(names))
        self.stages = {name: self.stages.get(name) or StageCounters() for name in names}
        for name, stage in self.stages.items():
            is_final = name == names[-1]
            stage.counted_in = (stage.sizes, self.final_batches) if is_final else (stage.sizes,)

    def record_batch(
        self, stage: StageCounters | None, rows: Sequence[BatchRow], seconds: float
    ) -> None:
        """Count a batch, in the thread that ran it for so long.

        Args:
            stage: None: its batches are not told.
        """
        if stage is None:
            with self._lock:
                self.worker_s += seconds
            return
        sizes = [row.padded_size for row in rows] if rows[0].padded_size else ()
        values = len(sizes) * max(sizes, default=0)
        padding = values - sum(sizes)
        with self._lock:
            self.worker_s += seconds
            for counted in stage.counted_in:
                count, before_s = counted.get(len(rows), (0, 0.0))
                counted[len(rows)] = count + 1, before_s + seconds
            stage.values += values
            stage.padding += padding

    def record_capture(self, written: int, lost: int) -> None:
        """So many calls were recorded, and so many were to be and could not; in any thread."""
        with self._lock:
            self.captured += written
            self.capture_lost += lost

    def record_wake(self, seconds: float) -> None:
        """Count a cold start."""
        self.wakes += 1
        self.wake_s += seconds

    def attach(self, function: CountedFunction, memory_bytes: int) -> None:
        """The function is loaded, and holds so much memory from now on."""
        self.function = function
        self.hold_memory(memory_bytes)

    def detach(self, function: CountedFunction) -> None:
        """The function is unloaded; nothing happens where another version has been attached."""
        if self.function is function:
            self.function = None
            self.hold_memory(0)

    def hold_memory(self, size: int) -> None:
        """From now on the function holds so many bytes."""
        now = time.monotonic()
        self._byte_s = self.byte_seconds(now)
        self._held_since, self.memory_bytes = now, size

    def byte_seconds(self, now: float) -> float:
        """Return the bytes that it has held, times the seconds that it held them; never falls."""
        return self._byte_s + self.memory_bytes * (now - self._held_since)


class ProcessCounters:
    """The counts of every function of one process; iterating gives those that have any.

    Attributes:
        lost: records that were not written, by what they are of.
        others: requests that are no calls of functions, by status.
        keys: requests by the name of their key, where calls need one.
        began_at: since when they count, from nothing; seconds of ``time.monotonic``.

    Mutable state: ``lost``, ``others``, ``_functions`` (by name), ``_on_answered``, ``_on_failed``
    (all that are called) and ``_begin_trace``.
    """

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self.others: Counter[int] = Counter()
        self.keys = KeyCounts()
        self.began_at = time.monotonic()
        self._functions: dict[str, FunctionCounters] = {}
        self._on_answered: OnAnswered | None = None
        self._on_failed: tuple[OnFailed, ...] = ()
        self._begin_trace: BeginTrace | None = None

    def __iter__(self) -> Iterator[FunctionCounters]:
        return iter([counters for counters in self._functions.values() if counters.is_used])

    def of(self, name: str) -> FunctionCounters:
        """Return the counts of a declared function."""
        counters = self._functions.get(name)
        if counters is None:
            counters = self._functions[name] = FunctionCounters(name)
            counters.on_answered, counters.begin_trace = self._on_answered, self._begin_trace
            counters.on_failed = self._tell_failed if self._on_failed else None
        return counters

    def find(self, name: str) -> FunctionCounters | None:
        """Return the counts of a function; None: it has none yet."""
        return self._functions.get(name)

    def tell(self, on_answered: OnAnswered, begin_trace: BeginTrace | None) -> None:
        """From now on call these with each call over HTTP; as of ``FunctionCounters``."""
        self._on_answered, self._begin_trace = on_answered, begin_trace
        for counters in self._functions.values():
            counters.on_answered, counters.begin_trace = on_answered, begin_trace

    def tell_failed(self, on_failed: OnFailed) -> None:
        """From now on call this, too, with each request that was answered with an error."""
        self._on_failed = (*self._on_failed, on_failed)
        for counters in self._functions.values():
            counters.on_failed = self._tell_failed

    def _tell_failed(self, function: str, answered: CallRecord) -> None:
        for on_failed in self._on_failed:
            on_failed(function, answered)

    def record_other(self, answered: CallRecord) -> None:
        """Count a request that is no call of a function; status 0: its head was not sent."""
        self.others[answered.status or DISCONNECTED] += 1
        if answered.status >= FAILED:
            self._tell_failed("", answered)

    def record_loss(self, of: str, count: int) -> None:
        """So many records were not written. In any thread: a count may be lost itself."""
        self.lost[of] += count

    def keep(self, names: Collection[str]) -> None:
        """Forget the functions that are not among these: files come and go, a page would grow."""
        for name in self._functions.keys() - set(names):
            del self._functions[name]

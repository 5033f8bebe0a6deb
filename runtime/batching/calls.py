"""A call, its options and its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from runtime.batching.reservation import BodyReservation
from runtime.batching.streams.stream import Stream
from runtime.errors import DeadlineExceeded, WakefulError
from runtime.protocol.sequences import SequenceRef
from runtime.system.telemetry.trace import CallTrace

TIMINGS = ("queue", "batch", "preprocess", "model", "postprocess")
"""The kinds of a call's time, in the order of ``Server-Timing``."""


class CallOptions(NamedTuple):
    """What comes with the rows of a call. The edge builds it once, and no layer below changes it. A
    tuple, since every call makes one.

    Attributes:
        request_id: names the call in the log.
        deadline: after which no answer is of use, seconds of ``time.monotonic``. What makes the
            options of a call, over HTTP or for another function, has applied the called function's
            ``request_timeout_s``. Infinite: nothing has, and it counts from now.
        fingerprint: of the body (48 bits), 0 if unknown; with a row's index it names the row in
            crash reports.
        run_solo: indexes, in the body, of rows that run in batches of their own: they were running
            when a process died.
        refused: rows that are not run, by index, and the error that each of them gets instead;
            None: every row is run.
        sequence: that the call belongs to; None: it names none.
        headers: of the request, by name: those that stages of the function read; None: there are
            none, or none is read.
        account: counts the memory that its rows take in addition to its body; None: nothing is
            counted.
        trace: that it belongs to; None: there are no traces.
        key: the name of the key that its request came with, for the process that answers it; empty:
            with none, or it is answered here.
    """

    request_id: str = ""
    deadline: float = math.inf
    fingerprint: int = 0
    run_solo: frozenset[int] = frozenset()
    refused: Mapping[int, WakefulError] | None = None
    sequence: SequenceRef | None = None
    headers: Mapping[str, str] | None = None
    account: BodyReservation | None = None
    trace: CallTrace | None = None
    key: str = ""

    def deadline_at(self, now: float, limit_s: float) -> float:
        """Its deadline; where it has none, ``limit_s`` seconds from now."""
        return self.deadline if self.deadline < math.inf else now + limit_s


DEFAULT_OPTIONS: Final = CallOptions()


NEARLY: Final = 0.1
"""Part of a call's time with which it is nearly over (``Call.has_no_time``)."""

NO_GAPS: Final[Mapping[str, frozenset[int]]] = MappingProxyType({})


class Elements(Protocol):
    """The elements of a row that are sent one by one (``runtime.batching.streams.elements``).

    Both return the inner rows that are to be routed now, and whether the outer row is done.
    ``left``: elements that are not begun.
    """

    left: int

    def begin(self) -> tuple[list[Row], bool]: ...
    def finish(self, inner: Row) -> tuple[list[Row], bool]: ...


class Row:
    """One row: its values so far, or the error that ended it.

    Mutable state: ``values`` grows stage by stage; ``error`` is set once and ends the row; ``key``,
    ``shapes``, ``padded_size`` and ``since`` describe it to the batching policy while it waits;
    ``run_solo`` (no other row shares a batch with it) is set before it waits; ``has_left`` is set
    once the batcher has counted it out. While it is fanned out (``RowRouter``), ``inner`` are its
    inner rows and ``inner_count`` counts those that are not done, of ``fan_out`` in all; an inner
    row has a ``parent``, a ``number`` and is one ``until`` that segment. Inner rows whose values
    are sent one by one are known to ``elements`` alone. ``gaps`` names, by value, the elements that
    had no value when a list was gathered. ``held`` are the bytes that are counted for it
    (``reservation``).
    """

    # defaults of the class: most rows change few of them, and each call makes a row
    error: WakefulError | None = None
    key: Hashable = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    padded_size = 0
    since = 0.0
    run_solo = False
    has_left = False
    parent: Row | None = None
    inner: tuple[Row, ...] = ()
    inner_count = 0
    fan_out = 0
    elements: Elements | None = None
    number = 0
    until = 0
    gaps = NO_GAPS
    held = 0

    def __init__(self, call: Call, index: int, values: dict[str, Any]) -> None:
        self.call = call
        self.index = index
        self.values = values

    @property
    def account(self) -> BodyReservation | None:
        """Counts the memory that it takes."""
        return self.call.account

    @property
    def share(self) -> int:
        """How many rows of the same call wait together, itself included."""
        parent = self.parent
        return (
            len(self.call.rows) if parent is None else len(self.call.rows) * max(1, parent.fan_out)
        )

    def is_over(self, now: float) -> bool:
        """Whether computing more for it is useless: its call is over, or its outer row failed."""
        return self.call.is_over(now) or (self.parent is not None and self.parent.error is not None)

    @property
    def row_id(self) -> int:
        """64 bits that name it in crash reports: the call's fingerprint and its index; 0 if the
        call has no fingerprint.
        """
        fingerprint = self.call.fingerprint
        return fingerprint << 16 | min(self.index, 0xFFFF) if fingerprint else 0


class Call:
    """The rows of one call; it is answered when the last of them is.

    Args:
        rows_values: the validated request fields, one dict a row; not empty.
        indexes: of the rows in the body, where rows of it are not among them; None: 0, 1, 2 …
        request_id: names the call in the log.
        now: seconds, ``time.monotonic``.
        deadline: seconds on the same clock after which nothing more is computed for it.
        fingerprint: of the body, 0 if unknown.

    Mutable state: ``pending`` counts rows not yet answered (touched by one worker at a time under
    the batcher's lock), ``is_abandoned`` is set on the event loop when the answer is not waited for
    any more, ``timings`` adds up seconds by kind. ``stream`` is set before it is submitted, where
    its one row is answered item by item; so are ``account``, which counts the memory of its rows,
    and ``trace``, which keeps the parts of its time. ``failures`` counts its rows that failed, by
    place (``failure_log``).
    """

    is_abandoned = False
    failures: dict[str, int] | None = None
    stream: Stream | None = None
    account: BodyReservation | None = None
    trace: CallTrace | None = None

    def __init__(
        self,
        rows_values: Sequence[dict[str, Any]],
        *,
        request_id: str,
        now: float,
        deadline: float,
        fingerprint: int = 0,
        indexes: Sequence[int] | None = None,
    ) -> None:
        numbered = (
            enumerate(rows_values) if indexes is None else zip(indexes, rows_values, strict=True)
        )
        self.rows = [Row(self, index, values) for index, values in numbered]
        self.pending = len(self.rows)
        self.request_id = request_id
        self.started = now
        self.deadline = deadline
        self.fingerprint = fingerprint
        self.on_done: Callable[[Call], None] = _no_callback
        self.timings: dict[str, float] = dict.fromkeys(TIMINGS, 0.0)

    def __enter__(self) -> Call:
        """Its answer is waited for within the block, and not any more after it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.is_abandoned = True

    def is_over(self, now: float) -> bool:
        """Whether computing more for it is useless."""
        return self.is_abandoned or now > self.deadline

    def has_no_time(self, now: float, takes_s: float) -> bool:
        """Whether to begin with a row of it is useless: it is over, or nearly over, its time spent
        in queues, and a row takes longer than what is left. Without that an overload whose end is
        near would compute each row a moment too late.

        Args:
            takes_s: seconds, as rows took before; no more of a call's time than ``NEARLY``, so that
                an estimate which is wrong keeps no call from being computed, and measured.
        """
        left_s = self.deadline - now
        return (
            left_s < 0
            or self.is_abandoned
            or (left_s < takes_s and left_s < NEARLY * (self.deadline - self.started))
        )


class Trial(Call):
    """A call that no client made: a run before the function is ready. The code that runs it reports
    its failures; they are not logged as well.
    """


def _no_callback(*_: object) -> None:
    """Default callback: does nothing."""


def rows_still_needed(rows: Iterable[Row], now: float) -> list[Row]:
    """The rows that are still to be computed: without those that have an error, or get one here
    because their call is over.
    """
    needed = []
    for row in rows:
        if row.error is None and row.is_over(now):
            row.error = cancelled_row_error(row)
        if row.error is None:
            needed.append(row)
    return needed


def cancelled_row_error(row: Row) -> WakefulError:
    """The error of a row for which computing more is useless."""
    whole = row.parent
    return (
        whole.error if whole is not None and whole.error is not None else deadline_error(row.call)
    )


def deadline_error(call: Call, fix: str = "") -> DeadlineExceeded:
    """The error of a row whose call ran out of time.

    Args:
        fix: what the caller may do, where more is known than that it took too long.
    """
    if call.stream is not None:
        return DeadlineExceeded(
            f"the stream was not at its end after the {call.deadline - call.started:.3g} s that "
            "its caller and request_timeout_s left the whole of it. "
            + (fix or "Raise limits.request_timeout_s, or ask for less.")
        )
    usual = (
        "Send fewer rows"
        if len(call.rows) > 1
        else "Leave it more time, or raise limits.request_timeout_s, if the function takes longer"
    )
    return DeadlineExceeded(
        f"not answered within the {call.deadline - call.started:.3g} s that its caller and "
        f"request_timeout_s left it. {fix or f'{usual}; or call again when it is less busy.'}"
    )


class RowFlow(Protocol):
    """Has the rows of a function before and after each segment: its batcher.

    In any thread. ``drop_over`` returns the rows that are still to be computed; the others leave,
    before they cost compute. ``advance`` sends rows that have been through the segment, or failed,
    to their next one. ``fail``, while an exception is handled, logs it and has all of them leave
    with an error; ``refuse`` does so where nothing runs any more.
    """

    def drop_over(self, index: int, rows: list[Row], now: float) -> list[Row]: ...
    def advance(self, index: int, rows: list[Row]) -> None: ...
    def fail(self, index: int, rows: Sequence[Row]) -> None: ...
    def refuse(self, index: int, rows: Sequence[Row]) -> None: ...


def add_timing(
    rows: Sequence[Row], kind: str, seconds: float, stage: str = "", before_s: float = 0.0
) -> None:
    """Adds the time of a run to every call that had rows in it, once.

    Args:
        stage: that ran, for traces; empty: it is no run of a whole stage.
        before_s: seconds ago at which the run ended.
    """
    for call in {row.call for row in rows}:
        call.timings[kind] += seconds
        if call.trace is not None and stage:
            call.trace.add_until_now("stage", stage, seconds, before_s)

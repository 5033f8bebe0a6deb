"""A call's place in a trace, and what is known of its time: W3C Trace Context in and on, and the
decision whether the call is recorded.

The path of a call only stores moments here; spans are made of them when the call is over
(``spans``).

Sources: https://www.w3.org/TR/trace-context/ (``traceparent``); OpenTelemetry's environment
variables ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG``.
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

TRACEPARENT: Final = b"traceparent"

MAX_PARTS: Final = 128
"""Parts of a call that are kept: an array of a thousand rows may be run in as many batches."""

_PARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


class Parent(NamedTuple):
    """The span of another process that a call belongs to."""

    trace_id: int
    span_id: int
    is_sampled: bool


def read_traceparent(value: bytes) -> Parent | None:
    """Return the parent that a header names; None where it names none (``traceparent``, 3.2)."""
    found = _PARENT.fullmatch(value)
    if found is None or (value[:2] == b"00" and len(value) != 55):
        return None
    return Parent(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


Sampler = Callable[[Parent | None, int], bool]
"""Whether a call is recorded, by its parent and the id of its trace."""

_RATIO_LIMIT: Final = 1 << 64


def _always(parent: Parent | None, trace_id: int) -> bool:
    return True


def _never(parent: Parent | None, trace_id: int) -> bool:
    return False


def _by_ratio(bound: int, parent: Parent | None, trace_id: int) -> bool:
    return trace_id % _RATIO_LIMIT < bound  # as OpenTelemetry's SDK, so in every process alike


def _by_parent(root: Sampler, parent: Parent | None, trace_id: int) -> bool:
    return root(None, trace_id) if parent is None else parent.is_sampled


SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


def make_sampler(name: str, argument: str) -> Sampler:
    """Return the sampler of OpenTelemetry's name.

    Args:
        argument: of the ratio, a number from 0 to 1; empty: 1.

    Raises:
        ValueError: no such sampler, or no such number.
    """
    kind = name.removeprefix("parentbased_")
    if name not in SAMPLERS:
        raise ValueError(f"one of {', '.join(SAMPLERS)} is wanted")
    sampler: Sampler = _always if kind == "always_on" else _never
    if kind == "traceidratio":
        share = float(argument or 1)
        if not 0 <= share <= 1:
            raise ValueError("a number from 0 to 1 is wanted")
        sampler = functools.partial(_by_ratio, round(share * _RATIO_LIMIT))
    return sampler if kind == name else functools.partial(_by_parent, sampler)


class Part(NamedTuple):
    """A part of a call's time.

    Attributes:
        kind: queue, batch, stage or hop.
        name: of the segment, the stage or the called function.
        began, ended: seconds of ``time.monotonic``.
        rows: of the batch, those of other calls included; 0: it is none.
        hop: the call that was made, of a hop.
    """

    kind: str
    name: str
    began: float
    ended: float
    rows: int = 0
    hop: CallTrace | None = None


class CallTrace:
    """A call in its trace.

    Args:
        trace_id, span_id: of the call's own span.
        parent_id: of the span that it belongs to; 0: the trace begins here.
        is_sampled: whether it is recorded; else it only hands the trace on.

    Mutable state: ``parts``, appended by the threads that run it; ``dropped``, how many were too
    many.
    """

    __slots__ = ("dropped", "is_sampled", "parent_id", "parts", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, parent_id: int, *, is_sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.is_sampled = is_sampled
        self.parts: list[Part] = []
        self.dropped = 0

    @classmethod
    def begin(cls, fields: Mapping[bytes, bytes], sampler: Sampler) -> CallTrace:
        """Return the trace of a request with these headers; ``NOT_RECORDED`` of one that begins a
        trace and is not recorded.
        """
        value = fields.get(TRACEPARENT)
        parent = None if value is None else read_traceparent(value)
        trace_id = _new_id(128) if parent is None else parent.trace_id
        if parent is None and not sampler(None, trace_id):
            return NOT_RECORDED
        return cls(
            trace_id,
            _new_id(64),
            0 if parent is None else parent.span_id,
            is_sampled=parent is None or sampler(parent, trace_id),
        )

    @classmethod
    def hand_on(cls, fields: Mapping[bytes, bytes]) -> CallTrace | None:
        """Return the trace that these headers name, for a process that has no span in it: what it
        calls is called by the span that they name. None: they name none.
        """
        parent = read_traceparent(fields.get(TRACEPARENT, b""))
        if parent is None:
            return None
        return cls(parent.trace_id, parent.span_id, 0, is_sampled=parent.is_sampled)

    def begin_hop(self) -> CallTrace:
        """Return the trace of a call that is made for this one."""
        return CallTrace(self.trace_id, _new_id(64), self.span_id, is_sampled=self.is_sampled)

    @property
    def traceparent(self) -> bytes:
        """The header of a call whose parent is this one's span."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.is_sampled)

    def add(self, part: Part) -> None:
        """Keep a part, where the call is recorded; in any thread."""
        if not self.is_sampled:
            return
        if len(self.parts) >= MAX_PARTS:
            self.dropped += 1
            return
        self.parts.append(part)

    def add_until_now(self, kind: str, name: str, seconds: float, before_s: float = 0.0) -> None:
        """Keep a part that took so long and ended ``before_s`` seconds ago."""
        if self.is_sampled:
            ended = time.monotonic() - before_s
            self.add(Part(kind, name, ended - seconds, ended))


def _new_id(bits: int) -> int:
    return random.getrandbits(bits) or 1  # 0 is no id


NOT_RECORDED: Final = CallTrace(
    _new_id(64) << 64 | (_RATIO_LIMIT - 1), _new_id(64), 0, is_sampled=False
)
"""The trace of every call that begins one and is not recorded: most calls, where one in a hundred
is. What they call must not be recorded either, whatever its sampler: no ratio below 1 takes this
trace's id.
"""

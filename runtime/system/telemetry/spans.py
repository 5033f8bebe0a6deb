"""Spans of the calls that are over.

A span for the call, and within it one for the wait for a wake, for each wait in a queue, each batch
and the stages that it ran, and each call of another function. They are made from the moments that
the call has stored, once it is over; ``otlp`` sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from runtime.system.telemetry.access_log import AccessRecord
from runtime.system.telemetry.trace import CallTrace, Part


class TracedCall(NamedTuple):
    """A recorded call that is over: what the access log would say of it, and its trace.

    Attributes:
        began: when it arrived, seconds of ``time.monotonic``.
    """

    record: AccessRecord
    trace: CallTrace
    began: float


class SpanData(NamedTuple):
    """A span, in plain values: ids, nanoseconds since the epoch, attributes."""

    name: str
    span_id: int
    parent_id: int
    began_ns: int
    ended_ns: int
    kind: str
    attributes: dict[str, Any]
    is_error: bool = False


def spans_of(call: TracedCall, epoch_s: float) -> Iterator[SpanData]:
    """Yield the spans of a call, each after the one that it is in.

    Args:
        epoch_s: seconds since the epoch at which ``time.monotonic`` was 0.
    """
    record, trace = call.record, call.trace

    def nanoseconds(moment: float) -> int:
        return int((epoch_s + moment) * 1e9)

    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        "http.response.status_code": record.status,
        "wakeful.function": record.function,
        "wakeful.request_id": record.request_id.decode("latin-1"),
        "wakeful.rows": record.rows,
    }
    if record.code:
        attributes["error.type"] = record.code
    if record.key:
        attributes["wakeful.key"] = record.key
    if trace.dropped:
        attributes["wakeful.dropped_parts"] = trace.dropped
    yield SpanData(
        f"POST {record.function}",
        trace.span_id,
        trace.parent_id,
        nanoseconds(call.began),
        nanoseconds(call.began + record.seconds),
        "server",
        attributes,
        record.status >= 500,
    )
    if record.wake_s:
        wake = Part("wake", record.function, call.began, call.began + record.wake_s)
        yield _span_of(wake, trace.begin_hop().span_id, trace.span_id, nanoseconds)
    yield from _parts_of(trace, nanoseconds)


def _parts_of(trace: CallTrace, nanoseconds: Callable[[float], int]) -> Iterator[SpanData]:
    """A stage is in the batch that ran it: the one that it lies in, by time."""
    parts = sorted(trace.parts, key=lambda part: (part.began, -part.ended, part.kind != "batch"))
    batches: list[tuple[Part, int]] = []
    for part in parts:
        hop = part.hop
        span_id = trace.begin_hop().span_id if hop is None else hop.span_id
        parent_id = next(
            (
                id_
                for batch, id_ in reversed(batches)
                if part.kind != "batch" and batch.began <= part.began and part.ended <= batch.ended
            ),
            trace.span_id,
        )
        if part.kind == "batch":
            batches.append((part, span_id))
        yield _span_of(part, span_id, parent_id, nanoseconds)
        if hop is not None:
            yield from _parts_of(hop, nanoseconds)


def _span_of(
    part: Part, span_id: int, parent_id: int, nanoseconds: Callable[[float], int]
) -> SpanData:
    attributes: dict[str, Any] = {f"wakeful.{part.kind}": part.name}
    if part.rows:
        attributes["wakeful.batch.rows"] = part.rows
    return SpanData(
        f"{part.kind} {part.name}",
        span_id,
        parent_id,
        nanoseconds(part.began),
        nanoseconds(part.ended),
        "client" if part.kind == "hop" else "internal",
        attributes,
    )

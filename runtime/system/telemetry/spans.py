"""Spans of the calls that are over, sent to a collector of OpenTelemetry (OTLP over HTTP).

A span for the call, and within it one for the wait for a wake, for each wait in a queue, each batch
and the stages that it ran, and each call of another function. They are made from the moments that
the call has stored, in a thread, with the SDK's own objects and its exporter: that reads
``OTEL_EXPORTER_OTLP_*``, and the resource ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtime.errors import LoadError
from runtime.system.extras import missing_message
from runtime.system.telemetry.access_log import AccessRecord
from runtime.system.telemetry.background import BackgroundWriter
from runtime.system.telemetry.trace import CallTrace, Part

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
"""The module that is not there without the extra ``otel``; Ray brings the SDK by itself."""

MAX_QUEUED: Final = 2048
"""Calls that wait to be sent, as many as the SDK's queue has spans."""

MAX_SENT: Final = 512
"""Spans of one request to the collector, as the SDK's default."""

CLOSE_S: Final = 3.0
"""Longest wait for the last spans when the process ends."""


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


class SpanExporter:
    """Sends the spans of calls, in a thread.

    Args:
        replica: names the process.
        on_drop: called with how many calls were lost.

    Raises:
        LoadError: the packages are not installed, or the exporter's own variables are wrong.
    """

    def __init__(self, replica: str, on_drop: Callable[[int], object]) -> None:
        try:
            # optional packages, and 0.3 s for those that use no traces
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import SpanExportResult
        except ImportError as error:
            raise LoadError(
                missing_message("opentelemetry", "A process that sends traces (OTEL_*)")
            ) from error
        # it logs each attempt; what is lost in the end is counted and said here
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        identity = {"service.instance.id": replica}
        resource = Resource.create(identity)
        if not str(resource.attributes["service.name"]).startswith("unknown_service"):
            self._resource = resource
        else:
            self._resource = Resource.create({**identity, "service.name": "wakeful"})
        self._success = SpanExportResult.SUCCESS
        try:
            self._exporter: Any = OTLPSpanExporter()  # in part without types
        except Exception as error:  # whatever it makes of a wrong variable
            raise LoadError(f"OTEL_EXPORTER_OTLP_*: {error}") from error
        self._writer: BackgroundWriter[TracedCall] = BackgroundWriter(
            "traces", self._export, on_drop, max_queued=MAX_QUEUED
        )
        self.put = self._writer.put

    def close(self) -> None:
        """Send what is queued. Idempotent."""
        self._writer.close(CLOSE_S)
        self._exporter.shutdown()

    def _export(self, calls: Sequence[TracedCall]) -> None:
        epoch_s = time.time() - time.monotonic()
        spans = (
            self._readable(call.trace, span) for call in calls for span in spans_of(call, epoch_s)
        )
        while some := list(islice(spans, MAX_SENT)):
            if self._exporter.export(some) is not self._success:
                raise ConnectionError("the collector does not take them")

    def _readable(self, trace: CallTrace, span: SpanData) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(span_id: int, *, is_remote: bool) -> SpanContext:
            flags = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(trace.trace_id, span_id, is_remote=is_remote, trace_flags=flags)

        is_root = span.kind == "server"
        return ReadableSpan(
            span.name,
            context(span.span_id, is_remote=False),
            context(span.parent_id, is_remote=is_root) if span.parent_id else None,
            self._resource,
            span.attributes,
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=InstrumentationScope("wakeful"),
        )

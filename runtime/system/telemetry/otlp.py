"""Sends spans to a collector of OpenTelemetry by OTLP over HTTP, with the SDK's own objects and its
exporter: that reads ``OTEL_EXPORTER_OTLP_*``, and the resource ``OTEL_SERVICE_NAME`` and
``OTEL_RESOURCE_ATTRIBUTES``.

The packages are the extra ``otel``; only a process that sends traces imports this module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime.errors import LoadError
from runtime.system.telemetry.background import BackgroundWriter
from runtime.system.telemetry.spans import SpanData, TracedCall, spans_of
from runtime.system.telemetry.trace import CallTrace

MAX_QUEUED: Final = 2048
"""Calls that wait to be sent, as many as the SDK's queue has spans."""

MAX_SENT: Final = 512
"""Spans of one request to the collector, as the SDK's default."""

CLOSE_S: Final = 3.0
"""Longest wait for the last spans when the process ends."""

_SCOPE: Final = InstrumentationScope("wakeful")


class SpanExporter:
    """Makes the spans of calls, and sends them, in a thread.

    Args:
        replica: names the process.
        on_drop: called with how many calls were lost.
        gather_s: seconds for which spans are sent together.

    Raises:
        LoadError: the exporter's own variables are wrong.
    """

    def __init__(self, replica: str, on_drop: Callable[[int], object], gather_s: float) -> None:
        # it logs each attempt; what is lost in the end is counted and said by the writer
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._resource = _resource(replica)
        try:
            self._exporter: Any = OTLPSpanExporter()  # in part without types
        except Exception as error:  # whatever it makes of a wrong variable
            raise LoadError(f"OTEL_EXPORTER_OTLP_*: {error}") from error
        self._writer: BackgroundWriter[TracedCall] = BackgroundWriter(
            "traces", self._export, on_drop, max_queued=MAX_QUEUED, gather_s=gather_s
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
            if self._exporter.export(some) is not SpanExportResult.SUCCESS:
                raise ConnectionError("the collector does not take them")

    def _readable(self, trace: CallTrace, span: SpanData) -> ReadableSpan:
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
            instrumentation_scope=_SCOPE,
        )


def _resource(replica: str) -> Resource:
    identity = {"service.instance.id": replica}
    resource = Resource.create(identity)
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        return Resource.create({**identity, "service.name": "wakeful"})
    return resource

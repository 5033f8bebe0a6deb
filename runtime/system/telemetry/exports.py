"""Where a process sends what it knows of each call that is over: the access log, and traces."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from runtime.errors import LoadError
from runtime.system.extras import missing_message
from runtime.system.telemetry.access_log import AccessLog, AccessRecord
from runtime.system.telemetry.counters import DISCONNECTED, CallRecord, ProcessCounters
from runtime.system.telemetry.spans import TracedCall
from runtime.system.telemetry.trace import CallTrace, Sampler

if TYPE_CHECKING:
    from runtime.system.telemetry.otlp import SpanExporter

SPAN_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
"""The package that is not there without the extra ``otel``; Ray brings the SDK by itself."""


class ExportSettings(Protocol):
    """As of ``runtime.settings.Settings``."""

    @property
    def access_log(self) -> Path | None: ...
    @property
    def access_log_mb(self) -> int: ...
    @property
    def trace_sampler(self) -> Sampler | None: ...
    @property
    def trace_delay_s(self) -> float: ...


class Exports:
    """Attached to the counters of a process, which call it with each call that is over. Where the
    settings ask for nothing, nothing is attached.

    Args:
        counters: of the process.
        replica: names the process.

    Raises:
        LoadError: what the settings ask for cannot be done here.
    """

    def __init__(self, counters: ProcessCounters, settings: ExportSettings, replica: str) -> None:
        self._access_log: AccessLog | None = None
        self._spans: SpanExporter | None = None
        if settings.access_log is not None:
            self._access_log = AccessLog(
                settings.access_log,
                settings.access_log_mb * 1_000_000,
                replica,
                lambda lost: counters.record_loss("access_log", lost),
            )
        sampler = settings.trace_sampler
        if sampler is not None:
            try:
                # an extra, and 0.3 s for a process without traces
                from runtime.system.telemetry.otlp import SpanExporter
            except ImportError as error:
                raise LoadError(
                    missing_message("opentelemetry", "A process that sends traces (OTEL_*)")
                ) from error
            self._spans = SpanExporter(
                replica,
                lambda lost: counters.record_loss("traces", lost),
                settings.trace_delay_s,
            )
        if self._access_log is not None or sampler is not None:
            counters.tell(
                self._on_answered,
                None if sampler is None else functools.partial(CallTrace.begin, sampler=sampler),
            )

    def close(self) -> None:
        """Write what is queued; blocks for a few seconds at most. Idempotent."""
        for each in (self._access_log, self._spans):
            if each is not None:
                each.close()

    def _on_answered(self, function: str, answered: CallRecord) -> None:
        trace = answered.trace
        is_traced = trace is not None and trace.is_sampled
        if self._access_log is None and not is_traced:
            return
        call = answered.call
        record = AccessRecord(
            time.time(),
            answered.id_bytes,
            function,
            answered.status or DISCONNECTED,
            answered.code,
            answered.received_bytes,
            answered.sent_bytes,
            time.monotonic() - answered.began,
            None if call is None else call.timings,
            0 if call is None else len(call.rows),
            answered.wake_s,
            trace.trace_id if trace is not None and is_traced else 0,
            answered.key,
        )
        if self._access_log is not None:
            self._access_log.put(record)
        if self._spans is not None and trace is not None and is_traced:
            self._spans.put(TracedCall(record, trace, answered.began))

"""Where a process sends what it knows of each call that is over: the access log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from runtime.system.telemetry.access_log import AccessLog, AccessRecord
from runtime.system.telemetry.counters import DISCONNECTED, AnsweredCall, ProcessCounters


class ExportSettings(Protocol):
    """As of ``runtime.settings.Settings``."""

    @property
    def access_log(self) -> Path | None: ...
    @property
    def access_log_mb(self) -> int: ...


class Exports:
    """Attached to the counters of a process, which call it with each call that is over.

    Args:
        counters: of the process; where nothing is to be exported, nothing is attached.
        replica: names the process.

    Raises:
        LoadError: what the settings ask for cannot be done here.
    """

    def __init__(self, counters: ProcessCounters, settings: ExportSettings, replica: str) -> None:
        self._access_log = (
            None
            if settings.access_log is None
            else AccessLog(
                settings.access_log,
                settings.access_log_mb * 1_000_000,
                replica,
                lambda lost: counters.record_loss("access_log", lost),
            )
        )
        if self._access_log is not None:
            counters.tell(self._on_answered)

    def close(self) -> None:
        """Write what is queued; blocks for a few seconds at most. Idempotent."""
        if self._access_log is not None:
            self._access_log.close()

    def _on_answered(self, function: str, answered: AnsweredCall) -> None:
        call = answered.call
        assert self._access_log is not None
        self._access_log.put(
            AccessRecord(
                time.time(),
                answered.id_bytes,
                function,
                answered.status or DISCONNECTED,
                answered.code,
                0 if answered.body is None else len(answered.body),
                answered.sent_bytes,
                time.monotonic() - answered.began,
                None if call is None else call.timings,
                0 if call is None else len(call.rows),
                answered.wake_s,
            )
        )

"""Recorded calls on their way from a process of a cluster to the catalogue, which writes those of
all processes into one file a function. What the catalogue does not take in time is lost, and
counted; nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.observability.report_sending import ANSWER_S, Heartbeat
from runtime.library.capture.captures import CapturedFunction
from runtime.library.capture.reordering import TimedLine
from runtime.system.telemetry.counters import ProcessCounters

logger = logging.getLogger("wakeful.capture")

MAX_HELD_BYTES: Final = 32 << 20
"""Of lines that wait to be sent."""

MAX_SENT_BYTES: Final = 4 << 20
"""Of lines that are sent at once."""

SEND_S: Final = 0.5
"""Between two sends: a call to the catalogue costs both sides a millisecond."""

CLOSE_S: Final = 2.0
"""Longest wait for the last send, when the process ends."""


@dataclass(frozen=True, slots=True)
class CaptureBatch:
    """Lines that a process sends.

    Attributes:
        source: its id.
        number: of the batch; one that is sent again has the same.
        lines: by function.
        lost: calls that the process has lost until now, by function.
    """

    source: str
    number: int
    lines: Mapping[str, Sequence[TimedLine]]
    lost: Mapping[str, int]


class CaptureSender:
    """Implements ``runtime.library.capture.captures.CaptureStore`` for a process of a cluster. Made
    and closed on its event loop.

    Args:
        source: the process's id.
        heartbeat: asks the catalogue; None while there is none yet.
        counters: of the process, where calls that are lost are counted.

    Mutable state: under ``_lock`` ``_held`` (lines with their functions, oldest first) and
    ``_bytes`` of them; ``_batch`` (sent, and not known to be taken) and
    ``_number`` of the last one; ``_has_lines`` and ``_is_closing``.
    """

    def __init__(
        self,
        source: str,
        heartbeat: Callable[[], Heartbeat | None],
        counters: ProcessCounters,
    ) -> None:
        self._source = source
        self._heartbeat = heartbeat
        self._counters = counters
        self._lock = threading.Lock()
        self._held: list[tuple[str, TimedLine]] = []
        self._bytes = 0
        self._batch: CaptureBatch | None = None
        self._number = 0
        self._is_closing = False
        self._has_lines = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="send captured calls")

    def declare(self, functions: Mapping[str, CapturedFunction]) -> bool:
        """See ``CaptureStore``: the catalogue keeps them."""
        return False

    def add(self, function: str, lines: Sequence[TimedLine]) -> None:
        """See ``CaptureStore``."""
        lost = 0
        with self._lock:
            for line in lines:
                if self._bytes + len(line.line) > MAX_HELD_BYTES:
                    lost += 1
                    continue
                self._held.append((function, line))
                self._bytes += len(line.line)
        if lost:
            self._counters.of(function).record_capture(0, lost)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._has_lines.set)

    def tick(self, now: float) -> None:
        """See ``CaptureStore``: the event loop sends."""

    async def close(self) -> None:
        """Send what is left, for ``CLOSE_S`` at most. Idempotent."""
        self._is_closing = True
        self._has_lines.set()
        await asyncio.wait((self._task,), timeout=CLOSE_S)
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._has_lines.wait()
            self._has_lines.clear()
            while self._next_batch() is not None:
                if not await self._send() and self._is_closing:
                    return
                if not self._is_closing:
                    await asyncio.sleep(SEND_S)
            if self._is_closing:
                return

    def _next_batch(self) -> CaptureBatch | None:
        """Return what is to be sent: what was not taken, or the oldest lines."""
        if self._batch is not None:
            return self._batch
        lines: dict[str, list[TimedLine]] = {}
        with self._lock:
            size = count = 0
            for function, line in self._held:
                if count and size + len(line.line) > MAX_SENT_BYTES:
                    break
                lines.setdefault(function, []).append(line)
                size += len(line.line)
                count += 1
            del self._held[:count]
            self._bytes -= size
        if lines:
            self._number += 1
            lost = {one.name: one.capture_lost for one in self._counters if one.capture_lost}
            self._batch = CaptureBatch(self._source, self._number, lines, lost)
        return self._batch

    async def _send(self) -> bool:
        """Return whether the catalogue has taken the batch; it is sent again if not."""
        heartbeat, batch = self._heartbeat(), self._batch
        if heartbeat is None or batch is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                await heartbeat.ask("receive_captured", batch)
        except Exception as error:  # Ray raises many types for an actor that died
            logger.info("recorded calls are sent again: %s", error or type(error).__name__)
            return False
        self._batch = None
        return True

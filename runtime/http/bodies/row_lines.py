"""The rows of a call, answered with a line of JSON each: written in order, as they are done.

Where all rows are done when the first is seen to be, the answer is whole, with its length.
Otherwise the head is sent with the first rows, and what is done meanwhile follows, a few times a
second. From then on the status is said, so what ends the call is told in the line of each row that
it left undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from starlette.types import Send

from runtime.errors import Draining, WakefulError
from runtime.execution.streaming import RowsSource
from runtime.http.bodies.answers import Outcome, answer_size, write_lines
from runtime.http.bodies.offloading import LARGE_BYTES
from runtime.http.exchange import LINES, server_timing
from runtime.library.capture import recorder
from runtime.system.telemetry.counters import CallRecording

FLUSH_S: Final = 0.02
"""Pause between two looks at what is done: a row comes so much later at most. Lines by themselves
cost a tenth of a short row.
"""

IDLE_FLUSH_S: Final = 0.1
"""The same while rows take long: as long as nothing is done, each pause is twice the one before."""

UNREAD_TIMEOUT_S: Final = 1.0
"""Seconds after the call's deadline within which the client must have read what was sent; then the
connection is cut.
"""

FINAL_LINES_TIMEOUT_S: Final = 0.2
"""How long sending the last lines may take in a process that ends."""

WriteLarge = Callable[[int, Callable[[], bytes]], Awaitable[bytes]]
"""Runs the writing of so many bytes off the event loop."""


class LinesWriter:
    """Writes one call's lines.

    Args:
        source: of the outcomes; closed here.
        request_id: repeated in errors.
        write_large: for a row of ``LARGE_BYTES`` or more.
        recording: of the call; None: it is not recorded.

    Mutable state: ``_send``, once it sends; ``_pause_s``, before the next look.
    """

    def __init__(
        self,
        source: RowsSource,
        request_id: str,
        write_large: WriteLarge,
        recording: CallRecording | None = None,
    ) -> None:
        self._send: Send
        self._source = source
        self._request_id = request_id
        self._write_large = write_large
        self._recording = recording
        self._pause_s = FLUSH_S

    async def take(self) -> list[Outcome]:
        """Return the next outcomes; none at the end.

        Raises:
            WakefulError: as ``RowsSource.take``.
        """
        while not self._source.is_at_end:
            if found := await self._source.take(self._pause_s):
                self._pause_s = FLUSH_S
                return found
            self._pause_s = min(IDLE_FLUSH_S, 2 * self._pause_s)
        return []

    async def send_to(self, first: Sequence[Outcome], send: Send) -> None:
        """Send the answer as ASGI messages.

        Args:
            first: outcomes that were taken already.
        """
        self._send, source = send, self._source
        assert source.call is not None
        remaining_s = source.call.deadline - time.monotonic() + UNREAD_TIMEOUT_S
        try:
            # a client that does not read: an answer without its last message cuts the connection
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await self._send_rows(first)
        finally:
            source.close()

    async def _send_rows(self, outcomes: Sequence[Outcome]) -> None:
        timing = server_timing(self._source.call)
        if self._recording is not None:
            self._recording.begin_parts(recorder.LINES)
        headers = [LINES, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), timing]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while outcomes:
                for piece in pieces(outcomes):
                    await self._send_lines(await self._write(piece))
                outcomes = await self.take()
        except asyncio.CancelledError:
            # the client disconnected, and gets nothing; or it does not read; or the process ends
            with contextlib.suppress(Exception):
                async with asyncio.timeout(FINAL_LINES_TIMEOUT_S):
                    await self._send_draining()
            raise
        await self._send({"type": "http.response.body", "body": b""})
        if self._recording is not None:
            self._recording.end_parts()

    async def _send_draining(self) -> None:
        error = Draining("the process ended before this row was done; call again.", retry_after_s=1)
        left = self._source.take_done(error)
        await self._send_lines(write_lines(left, self._request_id))
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_lines(self, text: bytes) -> None:
        if text:
            if self._recording is not None:
                self._recording.keep_parts((text,))
            await self._send({"type": "http.response.body", "body": text, "more_body": True})
            await asyncio.sleep(0)

    async def _write(self, outcomes: Sequence[Outcome]) -> bytes:
        size = answer_size(outcomes)
        if size < LARGE_BYTES:
            return write_lines(outcomes, self._request_id)
        try:
            return await self._write_large(size, lambda: write_lines(outcomes, self._request_id))
        except WakefulError as error:  # the time is over before it is written
            return write_lines([error] * len(outcomes), self._request_id)


def pieces(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Yield outcomes in parts that the event loop writes in a millisecond or two; a row that takes
    longer is a part by itself.
    """
    rows = max(1, (LARGE_BYTES - 1) * len(outcomes) // max(1, answer_size(outcomes)))
    for start in range(0, len(outcomes), rows):
        yield outcomes[start : start + rows]

"""The caller of one exchange: the body he sends, and whether he is still there while his call is computed.

Both waits end by cancelling the task that serves him, from a timer or from a watch. Most bodies are there with their head, and most
calls are answered within milliseconds, so neither costs more than a timer: ``asyncio.timeout`` was 3 % of a short call, and the
watch, which is a task, begins only for calls that take longer.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import overload

from starlette.types import Receive, Scope

from runtime.errors import SlowUpload, TooLarge, UnsupportedMediaType
from runtime.http import intake
from runtime.http.bodies import Parcel
from runtime.http.patience import Patience

UPLOAD_TIMEOUT_S = 30.0
"""A body that has not arrived by then is a slow upload: it must not hold a connection and memory for ever."""

WATCH_AFTER_S = 0.25
"""A caller who leaves costs at most this much computing. At 0.05 every second call of a busy MiniLM (64 callers) paid for a watch."""


class Disconnected(Exception):
    """The caller left."""


class Caller:
    """``async with Caller(scope, receive, patience) as caller:`` around everything that is done for him.

    Raises, out of the block:
        SlowUpload: not all of the body within ``UPLOAD_TIMEOUT_S``.
        DeadlineExceeded: his time was over before all of it was there.
        Disconnected: he left while sending or while his call was computed; what was awaited in the block has been cancelled.

    Mutable state: ``_timer`` (the wait that runs), ``_watch`` (the task that waits for him to leave), ``_ended`` (why the block was
    cancelled, if it was from here).
    """

    def __init__(self, scope: Scope, receive: Receive, patience: Patience) -> None:
        self._scope = scope
        self._receive = receive
        self._patience = patience
        self._watch: asyncio.Task[None] | None = None
        self._ended: Exception | None = None

    async def __aenter__(self) -> Caller:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = task.get_loop()
        left_s = self._patience.left_s(time.monotonic())
        self._timer = self._loop.call_later(min(UPLOAD_TIMEOUT_S, left_s), self._end_upload, left_s <= UPLOAD_TIMEOUT_S)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._ended is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise self._ended

    @overload
    async def body(self, max_body_bytes: int, parcel: Parcel) -> bytes: ...

    @overload
    async def body(self, max_body_bytes: int, parcel: Parcel, tensors_at: int | None) -> bytes | memoryview: ...

    async def body(self, max_body_bytes: int, parcel: Parcel, tensors_at: int | None = None) -> bytes | memoryview:
        """The whole body; from then on he is watched.

        Args:
            parcel: is told how large the body is, before it is read where Content-Length says so.
            tensors_at: where in the body arrays begin that are used from where they lie; a large body is then a read-only view of memory
                in which they are aligned. None: there are none, the body is ``bytes``.

        Raises:
            TooLarge: more than ``max_body_bytes``.
            Overloaded: the parcel finds no room.
            UnsupportedMediaType: it is compressed.
            Disconnected: he left.
        """
        length = 0
        for key, value in self._scope["headers"]:
            if key == b"content-length" and value.isdigit():
                length = int(value)
                if length > max_body_bytes:
                    raise _too_large(max_body_bytes)
                parcel.grow_to(length)
            elif key == b"content-encoding" and value.lower() != b"identity":
                raise UnsupportedMediaType("compressed bodies are not read here; send it plain.", where="content-encoding")
        is_direct = tensors_at is not None and length >= intake.LEAST_BYTES and intake.reads(self._receive)
        body = await (self._take(length, tensors_at or 0) if is_direct else self._drain(max_body_bytes, parcel))
        self._timer.cancel()
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._begin_watch)
        return body

    async def _take(self, length: int, tensors_at: int) -> memoryview:
        """A body of known length, past the server; what has come of it already is a message of the server's."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        memory, chunk = intake.memory_for(length, tensors_at), message.get("body", b"")
        memory[: len(chunk)] = chunk
        if message.get("more_body", False) and not await intake.read_into(self._receive, memory[len(chunk) :]):
            raise Disconnected
        return memory.toreadonly()

    async def _drain(self, max_body_bytes: int, parcel: Parcel) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > max_body_bytes:
                raise _too_large(max_body_bytes)
            parcel.grow_to(size)
            if not message.get("more_body", False):
                return b"".join([*chunks, chunk]) if chunks else chunk
            chunks.append(chunk)

    def _begin_watch(self) -> None:
        self._watch = self._loop.create_task(self._wait_for_leave())

    async def _wait_for_leave(self) -> None:
        if (await self._receive())["type"] == "http.disconnect":
            self._end(Disconnected())

    def _end_upload(self, is_over: bool) -> None:
        self._end(self._patience.over() if is_over else SlowUpload(f"the body did not arrive within {UPLOAD_TIMEOUT_S:g} s."))

    def _end(self, why: Exception) -> None:
        self._ended = why
        self._task.cancel()


def _too_large(max_body_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {max_body_bytes} bytes of limits.max_body_bytes; send it in parts.")

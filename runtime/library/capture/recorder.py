"""Whether a call is recorded, and what is kept of it until it is over. On the event loop."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.lines import LEFT, MAX_BODY_BYTES, EndedCall
from runtime.system.telemetry.counters import CallRecord

JSON: Final = "json"
ITEMS: Final = "items"
LINES: Final = "lines"
BYTES: Final = "bytes"
"""Kinds of answers, as of ``EndedCall``."""

MAX_STREAM_BYTES: Final = 256 << 10
"""Of an answer that is kept while it is sent: there may be as many as a function takes calls."""

MAX_HOT_BYTES: Final = 16 << 10
"""An answer of so many bytes is digested here, and not kept for the thread: its 5 kB lie in the
processor's cache, where that takes 4 us. To keep them costs more, of this thread, which writes the
next answers to memory that was not used of late, and of the other one, which reads it.
"""

PIECE_BYTES: Final = 2047
"""Of a digest: of more ``hashlib`` lets other threads run, for which the event loop would wait."""

_HASHES: Final = 1 << 32


class Recording:
    """What is kept of one call while it runs: references, and what is sent of an answer that
    streams.

    Attributes:
        is_chosen: it is recorded if it belongs to no sequence.
        rate: share of the calls that was recorded when it came.
        age_s: when it came here, the seconds since it had arrived at the machine.
        path: as it was called, of one that is an address of the function; empty: not known yet.
        route: of the function, or the path of a task.
        known: fields that the function takes; None: it is not loaded.
        knows_wake: whether it waited for its function to wake is known here.
        sequence: that it belongs to; empty: to none.
        answer, digest, kind, items: as of ``EndedCall``.
        is_whole: all of its answer was sent, if any was.
        first: when the first item was sent, seconds of ``time.monotonic``.

    Mutable state: all of these, and ``_size`` of what is kept of a stream.
    """

    __slots__ = (
        "_recorder",
        "_size",
        "age_s",
        "answer",
        "digest",
        "first",
        "is_chosen",
        "is_whole",
        "items",
        "kind",
        "known",
        "knows_wake",
        "path",
        "rate",
        "route",
        "sequence",
    )

    def __init__(self, recorder: FunctionRecorder, *, is_chosen: bool) -> None:
        self._recorder = recorder
        self.is_chosen = is_chosen
        self.rate = recorder.rate
        self._size = 0
        self.age_s = 0.0
        self.path = self.route = self.sequence = self.kind = self.digest = ""
        self.known: Collection[str] | None = None
        self.answer: list[bytes | memoryview] = []
        self.items: int | None = None
        self.is_whole = self.knows_wake = True
        self.first: float | None = None

    def keep_route(self, path: str, route: str, known: Collection[str] | None) -> None:
        """It was called at this address."""
        self.path, self.route, self.known = path, route, known

    def keep_answer(self, buffers: Sequence[bytes | memoryview], kind: str) -> None:
        """Its answer is whole. What lies in a stage's or a model's memory is copied: it may be
        written again, or hold a batch.
        """
        if not self._recorder.takes(self):
            return
        size = sum(map(len, buffers))
        if size <= MAX_HOT_BYTES and self._recorder.digests_all:
            self.kind, self.digest = kind, digest_of(buffers)
        elif size <= MAX_BODY_BYTES:
            self.kind = kind
            self.answer = [one if isinstance(one, bytes) else bytes(one) for one in buffers]

    def begin_parts(self, kind: str) -> None:
        """Its answer is sent in parts, which are ``ITEMS`` or ``LINES``, and cut until
        ``end_parts``.
        """
        self.kind, self.is_whole = kind, False
        if kind == ITEMS:
            self.items = 0

    def keep_parts(self, texts: Sequence[bytes]) -> None:
        """These items, or lines of rows, are sent now; JSON."""
        if self.first is None:
            self.first = time.monotonic()
        if self.items is not None:
            self.items += len(texts)
        self._size += sum(map(len, texts))
        if self._size <= MAX_STREAM_BYTES:
            self.answer += texts
        else:  # a part of an answer is none
            self.answer, self.kind = [], ""

    def end_parts(self) -> None:
        """All of its answer was sent."""
        self.is_whole = True

    def end(
        self, record: CallRecord, fields: Mapping[bytes, bytes], body: bytes | memoryview | None
    ) -> None:
        """It is over.

        Args:
            fields, body: that its client sent.
        """
        self._recorder.end(self, record, fields, body)


class FunctionRecorder:
    """Decides for one function, and hands on what is recorded.

    Args:
        put: takes a call that is over, and may lose it.
        random: a number from 0 up to 1, which it never is, another each time.

    Attributes:
        name, prefix: of the function.
        spec: as it is declared.
        rate: share of the calls that is recorded now; above 0.
        has_sequences: a sequence is recorded as a whole, or not at all.

    Mutable state: ``spec``, ``rate`` and ``has_sequences``, when another declaration or an operator
    says so.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        spec: CaptureSpec,
        put: Callable[[FunctionRecorder, EndedCall], object],
        random: Callable[[], float],
        *,
        has_sequences: bool,
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.spec = spec
        self.rate = 0.0
        self.has_sequences = has_sequences
        self._put = put
        self._random = random

    def begin(self) -> Recording | None:
        """Return what keeps a call that has just come; None: it is not recorded."""
        if self._random() < self.rate:
            return Recording(self, is_chosen=True)
        # which sequence it belongs to is known once its body is read
        return Recording(self, is_chosen=False) if self.has_sequences else None

    def takes(self, recording: Recording) -> bool:
        """Whether a call is recorded, as far as is known of it now."""
        if self._is_of_sequence(recording):
            return takes_sequence(recording.sequence, self.rate)
        return recording.is_chosen

    def _is_of_sequence(self, recording: Recording) -> bool:
        return self.has_sequences and bool(recording.sequence)

    @property
    def digests_all(self) -> bool:
        """Whether nothing but its digest is recorded of an answer."""
        return self.spec.answer == "digest" and not self.spec.omit

    def end(
        self,
        recording: Recording,
        record: CallRecord,
        fields: Mapping[bytes, bytes],
        body: bytes | memoryview | None,
    ) -> None:
        """The call is over."""
        if not self.takes(recording):
            return
        now, age_s = time.monotonic(), recording.age_s
        latency_s = now - record.began + age_s
        first = recording.first
        self._put(
            self,
            EndedCall(
                time.time() - latency_s,
                record.id_bytes,
                record.method,
                recording.path or self.prefix,
                fields,
                body,
                recording.route,
                recording.known,
                record.status,
                record.code or ("" if recording.is_whole and record.status else LEFT),
                latency_s,
                recording.answer if recording.is_whole else (),
                recording.digest,
                recording.kind if recording.is_whole else "",
                record.sent_bytes,
                recording.items,
                None if first is None else first - record.began + age_s,
                not record.wake_s if recording.knows_wake else None,
                recording.sequence,
                self.rate if self._is_of_sequence(recording) else recording.rate,
            ),
        )


def digest_of(buffers: Sequence[bytes | memoryview]) -> str:
    """Return the SHA-256 of some bytes in hexadecimal; no other thread runs meanwhile."""
    digest = hashlib.sha256()
    for one in buffers:
        view = memoryview(one)
        for at in range(0, len(view), PIECE_BYTES):
            digest.update(view[at : at + PIECE_BYTES])
    return digest.hexdigest()


def takes_sequence(sequence: str, rate: float) -> bool:
    """Whether a sequence is recorded, at this rate: in every process alike, so that all its calls
    are or none.
    """
    return zlib.crc32(sequence.encode()) < rate * _HASHES

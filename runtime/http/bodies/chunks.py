"""A body in pieces that may be sent at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

CHUNK_BYTES: Final = 1 << 20
"""Bytes of a response that are sent at once. uvicorn copies a view before it writes it, 64 MiB in
40 ms and into as much memory again. In chunks of 2 MiB without a turn for other work between them,
64 MiB held the event loop for up to 14 ms.
"""


def chunked(buffers: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the buffers, the long ones in views of ``CHUNK_BYTES``."""
    return list(chain.from_iterable(map(_split, buffers)))


def _split(buffer: bytes | memoryview) -> Sequence[bytes | memoryview]:
    if len(buffer) <= CHUNK_BYTES:
        return (buffer,)
    view = memoryview(buffer)
    return [view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES)]

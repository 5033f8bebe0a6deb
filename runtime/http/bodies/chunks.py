"""A body in pieces: bounded and joined as they come, or cut into what may be sent at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Final

from runtime.errors import TooLarge

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


def too_large_error(max_body_bytes: int) -> TooLarge:
    """Return the error of a body that is too large."""
    return TooLarge(
        f"the body is larger than the {max_body_bytes} bytes of limits.max_body_bytes; "
        "send it in parts."
    )


JOIN_IN_THREAD_BYTES: Final = 4 << 20
"""A body of this size or more is joined in a thread: 64 MiB take 20 to 50 ms, most of them for the
pages of new memory.
"""


async def join(chunks: Sequence[bytes], size: int) -> bytes:
    """Return the chunks of a body of this size as one."""
    if len(chunks) <= 1:
        return chunks[0] if chunks else b""
    joined = b"".join  # of a megabyte and more it lets other threads run
    if size < JOIN_IN_THREAD_BYTES:
        return joined(chunks)
    return await asyncio.get_running_loop().run_in_executor(None, joined, chunks)

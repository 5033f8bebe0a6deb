"""A chunked body, read as it comes."""

from __future__ import annotations

import pytest

from runtime.http.bodies.chunked_coding import ChunkedDecoder


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_are_read_however_they_are_cut(size: int) -> None:
    """With extensions and trailers; all of it, and nothing of what comes behind."""
    data = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n"
    chunks = ChunkedDecoder()
    assert (
        b"".join(chunks.decode(data[at : at + size]) for at in range(0, len(data), size))
        == b"abc0123456789"
    )
    assert (chunks.is_last, chunks.has_more) == (True, False)
    assert chunks.decode(b"HTTP") == b""
    assert chunks.has_more


@pytest.mark.parametrize("data", [b"x\r\n", b"-1\r\n", b"\r\n", b"1" * 70_000])
def test_what_is_not_chunked_is_refused(data: bytes) -> None:
    """Before more of it is kept."""
    with pytest.raises(ValueError):  # noqa: PT011  # int's own
        ChunkedDecoder().decode(data)

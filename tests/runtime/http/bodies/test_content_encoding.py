"""Compressed bodies are decoded as they arrive, and no further than they may grow."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from backports import zstd

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import MalformedBody, Overloaded, TooLarge, UnsupportedMediaType, WakefulError
from runtime.http.bodies.content_encoding import MAX_MEMBERS, STEP_BYTES, ContentDecoder

LIMIT = 4 * STEP_BYTES
NOISE = random.Random(1).randbytes
CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("GZIP", lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:])),
    ("x-gzip", gzip.compress),
    ("zstd", zstd.compress),
    ("zstd", lambda body: zstd.compress(body[:7]) + zstd.compress(body[7:])),
]
BODIES = [
    b"",
    b"a",
    b"plain text",
    NOISE(3000),
    b"x" * STEP_BYTES,
    b"x" * (STEP_BYTES + 1),
    NOISE(STEP_BYTES) * 2,
    b"x" * LIMIT,
]


async def decoded(
    encoding: str, sent: bytes, chunk_bytes: int = 1 << 16, budget: ByteBudget | None = None
) -> tuple[bytes, ContentDecoder]:
    """A body that arrives in chunks, and what decoded it."""
    reservation = BodyReservation((budget,) if budget else (), lambda: 1.0)
    decoder = ContentDecoder(encoding.encode(), LIMIT, reservation)
    for start in range(0, len(sent), chunk_bytes):
        await decoder.feed(sent[start : start + chunk_bytes])
    body = await decoder.finish()
    assert reservation.size == len(body)
    return body, decoder


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("encoding", "compress"), CODINGS, ids=["gzip", "members", "x-gzip", "zstd", "frames"]
)
def test_a_body_is_what_was_compressed(
    encoding: str, compress: Callable[[bytes], bytes], chunk_bytes: int
):
    """However it arrives."""
    for body in BODIES[: 4 if chunk_bytes == 1 else None]:
        assert asyncio.run(decoded(encoding, compress(body), chunk_bytes))[0] == body


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_a_bomb_ends_at_the_limit(compress: Callable[[bytes], bytes]):
    """413 after one step more than may be, whatever the rest would have become."""
    encoding = "gzip" if compress is gzip.compress else "zstd"
    bomb = compress(b"\0" * (100 * LIMIT))
    budget = ByteBudget(lambda: 1 << 40)

    async def held() -> int:
        reservation = BodyReservation((budget,), lambda: 1.0)
        decoder = ContentDecoder(encoding.encode(), LIMIT, reservation)
        with pytest.raises(TooLarge):
            await decoder.feed(bomb)
        return budget.held

    assert asyncio.run(held()) <= LIMIT


def test_the_decoded_size_is_what_counts():
    """429 where others leave no room for it, though what arrived is small."""
    budget = ByteBudget(lambda: 2 * STEP_BYTES)
    budget.held = STEP_BYTES + 1
    with pytest.raises(Overloaded):
        asyncio.run(decoded("gzip", gzip.compress(b"x" * STEP_BYTES), budget=budget))


@pytest.mark.parametrize(
    ("encoding", "sent", "error"),
    [
        ("br", b"", UnsupportedMediaType),
        ("deflate", zlib.compress(b"x"), UnsupportedMediaType),
        ("gzip, gzip", b"", UnsupportedMediaType),
        ("", b"", UnsupportedMediaType),
        ("gzip", b"plain", MalformedBody),
        ("gzip", b"", MalformedBody),
        ("gzip", zlib.compress(b"x"), MalformedBody),
        ("gzip", gzip.compress(b"x" * 100)[:-1], MalformedBody),
        ("gzip", gzip.compress(b"x") + b"more", MalformedBody),
        ("zstd", b"plain", MalformedBody),
        ("zstd", zstd.compress(b"x" * 100)[:-1], MalformedBody),
    ],
    ids=[
        "br",
        "deflate",
        "a list",
        "nothing",
        "no gzip",
        "an empty gzip",
        "zlib",
        "a cut gzip",
        "more than gzip",
        "no zstd",
        "a cut zstd",
    ],
)
def test_what_is_not_decoded(encoding: str, sent: bytes, error: type[WakefulError]):
    """Another coding, or what is not of this one."""
    with pytest.raises(error) as refused:
        asyncio.run(decoded(encoding, sent))
    assert refused.value.where == "content-encoding"


@pytest.mark.parametrize(
    ("encoding", "member"),
    [
        ("gzip", gzip.compress(b"")),
        ("zstd", zstd.compress(b"")),
        ("zstd", b"\x50\x2a\x4d\x18" + bytes(4)),
    ],
    ids=["gzip", "zstd", "skippable"],
)
def test_members_have_a_bound(encoding: str, member: bytes):
    """Each costs a decompressor, though nothing comes of it."""
    whole = gzip.compress(b"x") if encoding == "gzip" else zstd.compress(b"x")
    taken = asyncio.run(decoded(encoding, whole + member * (MAX_MEMBERS - 1)))
    assert taken[0] == b"x"
    with pytest.raises(TooLarge) as refused:
        asyncio.run(decoded(encoding, whole + member * MAX_MEMBERS))
    assert refused.value.where == "content-encoding"


def test_a_window_beyond_what_http_allows_is_refused():
    """Of a frame whose length is not known: RFC 9659."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    sent = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(MalformedBody, match="content-encoding"):
        asyncio.run(decoded("zstd", sent))

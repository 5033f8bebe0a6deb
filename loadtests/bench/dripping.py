"""Functions that stream, for ``loadtests.bench.streaming``: both sides of its comparison make the same items."""

from __future__ import annotations

import time
from collections.abc import Iterator

TEXT = "token "


def drip(to: int, spin_us: int = 0) -> Iterator[dict[str, object]]:
    """So many items, each of so many microseconds of computing, with when it was begun."""
    for n in range(to):
        now = time.perf_counter()
        while time.perf_counter() - now < spin_us / 1e6:
            pass
        yield {"n": n, "text": TEXT}


def flood(to: int) -> Iterator[str]:
    """Items of 64 KiB, for callers who do not read."""
    for _ in range(to):
        yield "x" * (64 << 10)


def once(x: float) -> float:
    """An ordinary answer."""
    return 2 * x

"""The functions that are called: they take all that can be sent, and do nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from wakeful import Shape

Table = Annotated[NDArray[np.float32], Shape(-1, -1)]
Words = Annotated[NDArray[np.str_], Shape(-1)]


class Late:
    """Does not load while a file is there: calls wait for it."""

    def __init__(self, until: str) -> None:
        while Path(until).exists():
            time.sleep(0.1)

    def __call__(self, data: bytes) -> int:
        return len(data)


def take(
    n: int = 0,
    text: str = "",
    numbers: list[float] | None = None,
    texts: list[str] | None = None,
    counts: dict[str, int] | None = None,
    some: dict[str, Any] | None = None,
    items: list[Any] | None = None,
) -> int:
    """All that JSON can say."""
    return n


def arrays(table: Table | None = None, words: Words | None = None) -> int:
    """Tensors, by JSON and by `/infer`."""
    return (table is not None) + 2 * (words is not None)


def echo(table: Table) -> Table:
    """What came, as large as it came."""
    return table


def raw(data: bytes) -> int:
    """A body as it is."""
    return len(data)


def count(n: int) -> Iterator[int]:
    """An answer that streams."""
    yield from range(min(n, 10))

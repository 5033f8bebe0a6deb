"""Functions of one library that call each other."""

from __future__ import annotations

import asyncio

import pytest

from runtime.batching.calls import DEFAULT_OPTIONS
from runtime.errors import NotFound, Unavailable
from runtime.library.cold_start import ColdStart
from runtime.library.entry import LibraryEntry
from runtime.library.local_calls import LocalFunctionCaller


class Empty:
    """A library without functions."""

    async def get_loaded(self, name: str, *, arrived: float | None, until: float) -> LibraryEntry:
        """There is none."""
        raise NotFound(f"no function {name!r}")

    def finish_cold_start(self, entry: LibraryEntry) -> ColdStart | None:
        """Never called."""


def test_a_missing_callee_is_unavailable() -> None:
    """The client named another function; as over HTTP, it may call again."""
    with pytest.raises(Unavailable, match="'sub'"):
        asyncio.run(LocalFunctionCaller(Empty()).call("sub", [{}], DEFAULT_OPTIONS))

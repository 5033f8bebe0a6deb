"""What a process holds of the machine's memory."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from runtime.system.memory import Footprint, mapped_bytes

SIZE = 20_000_000


def test_memory_of_its_own_is_counted() -> None:
    """Where it is written to."""
    before = Footprint.of()
    # not from the heap, which may still have what earlier tests freed
    with mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for page in range(0, SIZE, mmap.PAGESIZE):
            held[page] = 1
        added = Footprint.of().since(before)
    assert SIZE * 0.9 < added.own_bytes < SIZE * 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_pages_of_a_mapped_file_are_counted_apart(tmp_path: Path) -> None:
    """Of the files that are named, a space in their names or not, and once they were read."""
    file, other = tmp_path / "a file", tmp_path / "other"
    file.write_bytes(b"x" * SIZE)
    other.write_bytes(b"x" * SIZE)
    with (
        file.open("rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        before = Footprint.of()
        assert mapped_bytes([file]) == 0
        assert len(bytes(mapped)) == SIZE
        assert mapped_bytes([file]) >= SIZE
        assert mapped_bytes([other]) == 0
        assert Footprint.of().since(before).mapped_bytes >= SIZE * 0.9


def test_a_system_that_does_not_tell_gives_0(tmp_path: Path) -> None:
    """As those without /proc."""
    assert mapped_bytes([tmp_path], smaps=tmp_path / "none") == 0


def test_what_shrank_counts_as_nothing() -> None:
    """Memory given back meanwhile is not the function's merit."""
    assert Footprint(1, 9).since(Footprint(5, 4)) == Footprint(0, 5)

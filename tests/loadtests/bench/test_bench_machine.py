"""The machine in general words."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench import machine


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx2 avx512f avx512_vnni", "AVX-512 VNNI"), ("fpu avx2 avx_vnni", "AVX VNNI"), ("fpu avx2", "AVX2"), ("fpu", "")],
)
def test_the_best_instruction_set_for_int8_is_named(tmp_path: Path, flags: str, found: str) -> None:
    """A whole word counts, and the best of them."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: some\nflags\t\t: {flags}\nbugs\t: avx2\n")
    assert machine.feature(tmp_path / "cpuinfo") == found


def test_no_model_and_no_name_of_the_machine_is_given_away(tmp_path: Path) -> None:
    """Cores, memory and versions; a machine without /proc has no feature."""
    assert machine.feature(tmp_path / "absent") == ""
    assert f"{machine.cores()} cores" in machine.describe()
    assert "Python 3." in machine.describe()

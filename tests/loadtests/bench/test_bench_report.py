"""The table and its place in a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench import report
from loadtests.bench.figures import Number, Target

SHARE = Number("`embed`, 64 connections, share of that", (0.79, 0.83, 0.81), target=Target("at least", 0.8))


def test_a_number_is_one_line_of_the_table() -> None:
    """Median, spread, target and verdict; a void one says why, and cannot break the table."""
    assert report.line(SHARE) == "| `embed`, 64 connections, share of that | 0.81 | 0.79 to 0.83 of 3 | at least 0.80 | met |"
    assert report.line(Number("start", (7.26,), "s", Target("at most", 10))) == "| start | 7.26 s |  | at most 10.0 s | met |"
    assert report.line(Number("rate", (), "req/s", void="a | b\nc")) == "| rate | - |  |  | **void**: a / b c |"
    assert report.line(Number("rate", (20469.4,), "req/s", note="one process")) == "| rate (one process) | 20,469 req/s |  |  |  |"


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    """Prose around the table stays; a second run replaces the first."""
    page = tmp_path / "docs" / "benchmarks.md"
    for date in ("2031-01-01", "2031-02-02"):
        report.write(page, report.section([SHARE], command="make bench", date=date, machine="2 cores"))
    text = page.read_text()
    assert "2031-01-01" not in text
    assert text.startswith("# Benchmarks\n")
    assert "`make bench`, 2031-02-02. 2 cores." in text
    page.write_text(text + "More words.\n")
    report.write(page, "new")
    assert page.read_text().endswith(f"new\n{report.END}\nMore words.\n")


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    """It says what to put where."""
    page = tmp_path / "page.md"
    page.write_text("words")
    with pytest.raises(ValueError, match="has no place for the table"):
        report.write(page, "table")
    assert page.read_text() == "words"

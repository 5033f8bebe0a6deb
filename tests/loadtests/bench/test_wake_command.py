"""The command line of `wakeful bench wake`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.bench import report, wrk
from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number
from loadtests.bench.wake import sections
from loadtests.bench.wake.command import main
from loadtests.bench.wake.plan import FULL, QUICK, Bench

pytestmark = pytest.mark.slow


def test_help_names_every_section() -> None:
    """So that `--only` can be used without reading code."""
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    assert ", ".join(sections.SECTIONS) in re.sub(r"\s+", " ", done.output)


def test_an_unknown_section_is_refused_with_the_known_ones() -> None:
    """Before anything starts."""
    done = CliRunner().invoke(main, ["--only", "embed,slep"])
    assert done.exit_code == 2
    assert "unknown: slep. There are embed, forecast" in re.sub(r"\s+", " ", done.output)


@pytest.mark.skipif(bool(wrk.missing()), reason=wrk.missing())
def test_missing_models_are_named_with_the_command_that_brings_them(tmp_path: Path) -> None:
    """Before anything starts."""
    done = CliRunner().invoke(main, ["--models", str(tmp_path)])
    assert done.exit_code == 1
    assert "Run `wakeful models pull`" in done.output


def test_wakeful_bench_wake_is_this_command() -> None:
    """And `wakeful bench` is still the other one."""
    for arguments, program in ((["wake", "--help"], "loadtests.bench.wake"), (["--help"], "loadtests.bench")):
        done = subprocess.run(
            [sys.executable, "-m", "deployments.cli", "bench", *arguments], capture_output=True, text=True, timeout=60, check=True
        )
        assert f"Usage: python -m {program} [OPTIONS]" in done.stdout


def test_a_section_that_fails_is_one_void_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether it says so itself or meets an answer that it cannot read; the next one is measured."""

    def fails(error: Exception) -> sections.Section:
        def section(_bench: Bench) -> list[Number]:
            raise error

        return section

    chosen = {"own": fails(ChildFailed("no answer")), "crowd": fails(KeyError("pid")), "gaps": lambda bench: [Number("good", (1.0,))]}
    monkeypatch.setattr(sections, "SECTIONS", chosen)
    said: list[str] = []
    bench = Bench(QUICK, {}, tmp_path, 8000, tmp_path, said.append)
    found = list(sections.measure(frozenset({"own", "crowd", "gaps"}), bench))
    assert [(number.name, number.verdict) for number in found] == [("own", "void"), ("crowd", "void"), ("good", "")]
    assert found[1].void == "an answer that cannot be read: KeyError: 'pid'"
    assert "section gaps" in said


def test_both_tables_have_their_place_on_one_page(tmp_path: Path) -> None:
    """Writing one leaves the other alone; a count is written as one."""
    page = tmp_path / "benchmarks.md"
    page.write_text("\n".join(["# Benchmarks", *report.MAKE, *report.WAKE, "The end."]))
    report.write(page, "first", report.MAKE)
    report.write(page, report.line(Number("calls lost", (0,))), report.WAKE)
    report.write(page, "again", report.MAKE)
    text = page.read_text()
    assert "| calls lost | 0 |  |  |  |" in text
    assert "again" in text
    assert "first" not in text
    for marker in (*report.MAKE, *report.WAKE):
        assert text.count(marker) == 1
    report.write(tmp_path / "new.md", "table", report.WAKE)
    assert "`wakeful bench wake` measures" in (tmp_path / "new.md").read_text()


def test_a_quick_run_measures_less_of_everything() -> None:
    """Of nothing more, and of nothing none."""
    fields = FULL.__slots__
    assert all(0 < getattr(QUICK, name) < getattr(FULL, name) for name in fields)

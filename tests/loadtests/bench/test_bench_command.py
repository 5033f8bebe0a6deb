"""The benchmark's command line, and how a failed section is reported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.bench import wrk
from loadtests.bench.children import ChildFailed
from loadtests.bench.command import main, plain
from loadtests.bench.figures import Number, Target
from loadtests.bench.run import SECTIONS, attempt


def test_help_names_every_section() -> None:
    """So that `--only` can be used without reading code."""
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    assert ", ".join(SECTIONS) in re.sub(r"\s+", " ", done.output)


def test_an_unknown_section_is_refused_with_the_known_ones() -> None:
    """Before anything starts."""
    done = CliRunner().invoke(main, ["--only", "embed64,embd"])
    assert done.exit_code == 2
    assert "unknown: embd. There are up, embed64" in re.sub(r"\s+", " ", done.output)


@pytest.mark.skipif(bool(wrk.missing()), reason=wrk.missing())
def test_missing_models_are_named_with_the_command_that_brings_them(tmp_path: Path) -> None:
    """Before anything starts."""
    done = CliRunner().invoke(main, ["--models", str(tmp_path)])
    assert done.exit_code == 1
    assert "model.int8.onnx" in done.output
    assert "Run `wakeful models pull`" in done.output


def test_a_section_that_fails_keeps_what_it_found_and_says_why() -> None:
    """The rest of the run goes on."""
    said: list[str] = []

    def section() -> Iterator[Number]:
        yield Number("first", (1.0,))
        raise ChildFailed("wrk: still running")

    first, failed = attempt(said.append, "mixed", section)
    assert (first.name, first.verdict) == ("first", "")
    assert (failed.name, failed.verdict, failed.void) == ("mixed", "void", "wrk: still running")
    assert said == ["mixed: wrk: still running"]


def test_a_number_for_a_program_carries_value_and_verdict() -> None:
    """One that was not measured has a null, which JSON knows, and no NaN, which it does not."""
    number = plain(Number("share", (0.7, 0.9), target=Target("at least", 0.8)))
    assert (number["value"], number["verdict"], number["target"]) == (0.8, "met", {"sense": "at least", "limit": 0.8})
    assert plain(Number("share", (), void="why"))["value"] is None

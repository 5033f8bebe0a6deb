"""What a load test shows while it runs and when it has ended, whatever a server names its errors."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.cli.traffic.load_terminal import (
    LoadLine,
    describe_progress,
    print_run,
    run_as_json,
)
from deployments.loadtest.generator.running import LoadProgress
from deployments.loadtest.results.comparison import compare
from deployments.loadtest.results.files import write_run
from deployments.loadtest.results.verdict import judge
from tests.deployments.loadtest.made_runs import EMBED, make_run


@pytest.mark.parametrize("text", ["[/red]", "[bold", "a [link=x]"])
def test_a_line_is_no_markup(text, capsys):
    """A path or a code may look like it, and neither ends the load test nor is left out."""
    progress = LoadProgress(10.0, 1.0, seconds=3.0, calls=30, errors=2, codes=Counter({text: 2}))
    with LoadLine() as line:
        line.say(text)
        line.show(progress)
    shown = capsys.readouterr().err
    assert f"{text} …" in shown
    assert f"({text} 2)" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.1, "0 of 10 s, warm-up, no errors"),
        (0.5, "0 of 10 s, warm-up, 60 calls/s, no errors"),
        (3.0, "3 of 10 s, 10 calls/s, no errors, 7 s left"),
        (12.0, "10 of 10 s, waiting for the last answers, 2 calls/s, no errors"),
    ],
)
def test_how_far_it_is(seconds, words):
    """Seconds, the rate so far, errors and what is left."""
    assert describe_progress(LoadProgress(10.0, 1.0, seconds=seconds, calls=30)) == words


def test_a_load_that_is_another_than_it_seems_is_said_so(capsys):
    """In the terminal, and to programs."""
    run = replace(make_run(seconds=2), cautions=["recorded: 1 % of the calls"])
    print_run(run, judge(run), None)
    assert "careful: recorded: 1 % of the calls" in capsys.readouterr().out
    assert run_as_json(run, judge(run), None)["cautions"] == ["recorded: 1 % of the calls"]


def test_what_the_server_did_not_say_is_null(capsys):
    """And blank on a terminal."""
    run = replace(make_run(EMBED, seconds=2), server=[])
    (of_function,) = run_as_json(run, judge(run), None)["functions"].values()
    assert {of_function[name] for name in ("wakes", "replica_s", "worker_s")} == {None}
    print_run(run, judge(run), None)
    assert "None" not in capsys.readouterr().out


DOCS = Path(__file__).parents[4] / "docs" / "loadtest.md"


def named() -> set[str]:
    """What docs/loadtest.md has as code."""
    return set(re.findall(r"`([a-z0-9_]+)`", DOCS.read_text(encoding="utf-8")))


def test_what_is_printed_for_programs_is_documented():
    """Each key of it; and it is JSON, whatever is not known."""
    run = make_run(seconds=5)
    found = run_as_json(run, judge(run), compare(run, run))
    json.dumps(found, allow_nan=False)
    of_function = next(iter(found["functions"].values()))
    missing = {*found, *of_function, *found["comparison"]} - named()
    assert not missing


def test_the_columns_of_calls_are_documented(tmp_path):
    """Those that each file has; the parts of a server's time are its own."""
    write_run(make_run(seconds=1), tmp_path)
    with (tmp_path / "calls.csv").open(newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
    assert not set(columns[:10]) - named()
    assert all(column.endswith("_ms") for column in columns[10:])

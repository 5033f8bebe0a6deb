"""Traces of calls: read, refused with their lines, made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.scaling.simulation import Arrival, poisson_arrivals, read_arrivals
from runtime.errors import DeclarationError, Problem
from tests.problems import expect_values, place, problems_in


@pytest.fixture
def written(tmp_path):
    """Writes a trace and gives its path."""

    def write(text: str):
        path = tmp_path / "trace.csv"
        path.write_text(text)
        return path

    return write


def test_a_trace_is_read_in_the_order_of_time(written):
    """A column without a value is a call that does not say how long it takes."""
    path = written("at_s,function,service_s\n2.5,f,0.1\n0,g,\n")
    assert read_arrivals(path, {"f", "g"}) == [Arrival(0.0, "g"), Arrival(2.5, "f", 0.1)]


@pytest.mark.parametrize(
    ("text", "where", "values"),
    [
        ("at_s,funktion\n0,f\n", "1: funktion", ["'function'?"]),
        ("at_s\n0\n", "1", ["'function'"]),
        ("at_s,function\n", "1", ["no arrivals"]),
        ("", "1", ["'at_s'"]),
        ("at_s,function\n0,f\n1,embedd\n", "3: function", ["'embedd'", "'embed'?"]),
        ("at_s,function\nnow,f\n", "2: at_s", ["'now'", "seconds"]),
        ("at_s,function\n-1,f\n", "2: at_s", ["'-1'", "seconds"]),
        ("at_s,function\n1732680000,f\n", "2: at_s", ["20054 days", "31"]),
        ("at_s,function,service_s\n1,f,nan\n", "2: service_s", ["'nan'", "seconds"]),
        ("at_s,function\n1,f,3\n", "2", ["more values"]),
    ],
)
def test_each_problem_is_reported_with_its_line(written, text, where, values):
    """As for a declaration."""
    problem = refused(written(text))[0]
    assert place(problem) == where
    expect_values(problem.message, *values)


def refused(path: Path) -> tuple[Problem, ...]:
    """The problems of a trace of calls of `f` and `embed`."""
    with pytest.raises(DeclarationError) as caught:
        read_arrivals(path, {"f", "embed"})
    return problems_in(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path):
    """Missing, or not text."""
    (tmp_path / "model.onnx").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("model.onnx", "missing.csv"):
        with pytest.raises(DeclarationError, match="cannot be read"):
            read_arrivals(tmp_path / name, {"f"})


def test_made_up_calls_come_at_their_rate_and_again_the_same():
    """Sorted, below the end, by the seed."""
    calls = poisson_arrivals({"f": 20.0, "g": 1.0, "never": 0.0}, 100.0, seed=3)
    assert (
        calls
        == poisson_arrivals({"f": 20.0, "g": 1.0, "never": 0.0}, 100.0, seed=3)
        != poisson_arrivals({"f": 20.0, "g": 1.0}, 100.0, seed=4)
    )
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert calls[-1].at < 100
    assert sum(call.function == "f" for call in calls) == pytest.approx(2000, rel=0.1)

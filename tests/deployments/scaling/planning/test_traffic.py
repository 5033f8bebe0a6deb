"""The calls that are planned for: rates, and recorded calls."""

from __future__ import annotations

import json

import pytest

from deployments.scaling.planning import traffic
from deployments.scaling.simulation import Arrival
from runtime.errors import DeclarationError, NotFound, RequestError
from tests.problems import expect_values

HEAD = {"wakeful_capture": 1, "function": "f", "version": "v", "began": 1e9}


@pytest.mark.parametrize(
    ("texts", "known", "rates"),
    [
        (["200"], ["f"], {"f": 200.0}),
        (["f=0.5"], ["f", "g"], {"f": 0.5}),
        (["f=2", "g=1e3"], ["f", "g"], {"f": 2.0, "g": 1000.0}),
    ],
)
def test_a_rate_is_a_number_and_where_needed_a_name(texts, known, rates):
    """A bare number is of the only function."""
    assert traffic.parse_rates(texts, known) == rates


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["0"], ["'0'", "above 0"]),
        (["-1"], ["'-1'"]),
        (["nan"], ["'nan'"]),
        (["inf"], ["'inf'"]),
        (["f=often"], ["'f=often'"]),
        (["f="], ["'f='"]),
        (["200"], ["NAME=200", "f, g"]),
        (["f=1", "f=2"], ["'f'", "two rates"]),
    ],
)
def test_what_is_no_rate_is_refused(texts, words):
    """With what was given, and how it is written."""
    with pytest.raises(RequestError) as refused:
        traffic.parse_rates(texts, ["f", "g"])
    assert refused.value.where == "--rps"
    expect_values(refused.value, *words)


def test_an_unknown_function_has_no_rate():
    """The nearest is named."""
    with pytest.raises(NotFound) as refused:
        traffic.parse_rates(["embd=3"], ["embed", "ocr"])
    expect_values(refused.value, "'embd'", "'embed'")


def test_a_steady_rate_has_a_minute_to_start_with():
    """Which is not looked at."""
    steady = traffic.steady_traffic({"f": 10.0}, 100.0, seed=0)
    assert (steady.since, steady.until, steady.seconds) == (60.0, 160.0, 100.0)
    assert steady.functions == ("f",)
    assert 1400 < len(steady.arrivals) < 1800


def test_more_calls_than_can_be_run_through_are_refused():
    """Before any is made."""
    with pytest.raises(RequestError) as refused:
        traffic.steady_traffic({"f": 1e9}, 1e6, seed=0)
    assert refused.value.where == "--for"


def capture(path, *records):
    """A file of these lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_capture_begins_at_its_first_call_and_has_lengths(tmp_path):
    """In the order of time; a body that is no JSON, or not whole, has none."""
    calls = [
        {"at": 1003.5, "body": {"text": "a longer text"}},
        {"at": 1001.0, "body": {"text": "a"}},
        {"at": 1002.0, "body_base64": "AAAA"},
        {"at": 1004.0, "body": {"text": "a"}, "omitted": ["image"]},
    ]
    file = capture(tmp_path / "calls.jsonl", HEAD, *calls)
    found = traffic.read_trace(file, ["f"], lambda name, size: float(size))
    assert found.arrivals == [
        Arrival(0.0, "f", length=12.0),
        Arrival(1.0, "f"),
        Arrival(2.5, "f", length=24.0),
        Arrival(3.0, "f"),
    ]
    assert (found.since, found.until) == (0.0, 4.0)


def test_a_csv_is_read_as_by_scale(tmp_path):
    """With its own seconds where it has them."""
    (tmp_path / "calls.csv").write_text("at_s,function,service_s\n0,f,0.5\n2,f,\n")
    found = traffic.read_trace(tmp_path / "calls.csv", ["f"], lambda name, size: 0.0)
    assert found.arrivals == [Arrival(0.0, "f", 0.5), Arrival(2.0, "f")]


CALL = {"at": 1.0, "body": {}}


@pytest.mark.parametrize(
    ("lines", "line", "key", "words"),
    [
        pytest.param(["{"], 1, "", ["JSON"], id="cut"),
        pytest.param([HEAD, 3], 2, "", ["object"], id="no object"),
        pytest.param([CALL], 1, "", ["begins a capture"], id="no head"),
        pytest.param([{**HEAD, "function": "g"}, CALL], 1, "function", ["'g'"], id="unknown"),
        pytest.param([HEAD, {"body": {}}], 2, "at", ["'None'"], id="no time"),
        pytest.param([HEAD, {"at": "now"}], 2, "at", ["'now'"], id="a text"),
        pytest.param([HEAD, {"at": True}], 2, "at", ["'True'"], id="a truth"),
        pytest.param([HEAD], 1, "", ["no calls"], id="empty"),
    ],
)
def test_a_damaged_capture_is_refused_by_its_lines(tmp_path, lines, line, key, words):
    """Each with its reason."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    (tmp_path / "calls.jsonl").write_text("\n".join(texts))
    with pytest.raises(DeclarationError) as refused:
        traffic.read_trace(tmp_path / "calls.jsonl", ["f"], lambda name, size: 0.0)
    (problem,) = refused.value.problems
    assert (problem.line, problem.key) == (line, key)
    expect_values(problem, *words)


def test_a_file_of_another_kind_is_refused_after_twenty_lines(tmp_path):
    """And not with a line for each of its own."""
    (tmp_path / "calls.jsonl").write_text("no json\n" * 500)
    with pytest.raises(DeclarationError) as refused:
        traffic.read_trace(tmp_path / "calls.jsonl", ["f"], lambda name, size: 0.0)
    assert len(refused.value.problems) == 20


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """And one that is no text."""
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    for name in ("gone.jsonl", "binary.jsonl", "gone.csv"):
        with pytest.raises(DeclarationError) as refused:
            traffic.read_trace(tmp_path / name, ["f"], lambda name, size: 0.0)
        expect_values(refused.value, str(tmp_path / name), "cannot be read")


def test_rows_beyond_the_profile_are_said():
    """Where length plays a part."""
    arrivals = [Arrival(0.0, "f", length=300.0), Arrival(1.0, "g", length=9.0)]
    (note,) = traffic.rows_of(arrivals, {"f": 160.0, "g": 160.0, "h": 0.0})
    expect_values(note, "f", "300", "160")

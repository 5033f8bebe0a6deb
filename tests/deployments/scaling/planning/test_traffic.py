"""The calls that are planned for: rates, and recorded calls."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from deployments.scaling.planning import traffic
from deployments.scaling.simulation import Arrival
from runtime.errors import DeclarationError, NotFound, RequestError
from tests.problems import expect_values


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


class Recorded(NamedTuple):
    """A call of a capture."""

    at: float
    body: bytes | None
    path: str = "/v2/models/f"
    omitted: tuple[str, ...] = ()
    rate: float = 1.0
    was_refused: bool = False


def planned(*calls: Recorded, seed: int = 0) -> traffic.PlannedTraffic:
    """Of a function whose rows are as long as their JSON."""
    return traffic.captured_traffic("calls", "f", "/v2/models/f", calls, float, seed)


def test_a_capture_begins_at_its_first_call_and_has_lengths():
    """In the order of time."""
    found = planned(
        Recorded(1003.5, b'{"text":"a longer text"}'), Recorded(1001.0, b'{"text":"a"}')
    )
    assert found.arrivals == [
        Arrival(0.0, "f", length=12.0),
        Arrival(2.5, "f", length=24.0),
    ]
    assert (found.since, found.until) == (0.0, 3.5)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(Recorded(5.0, None), id="no body was kept"),
        pytest.param(Recorded(5.0, b'{"text":"a"}', omitted=("image",)), id="a part of it"),
        pytest.param(Recorded(5.0, b"\x89PNG"), id="a file"),
        pytest.param(Recorded(5.0, b"3"), id="no row"),
        pytest.param(Recorded(5.0, b"[]"), id="no rows"),
        pytest.param(Recorded(5.0, b'{"inputs":[]}', "/v2/models/f/infer"), id="another wire"),
    ],
)
def test_a_row_that_is_not_known_is_as_long_as_the_example(call):
    """It is a call all the same."""
    assert planned(call).arrivals == [Arrival(0.0, "f")]


def test_rows_of_an_array_come_together():
    """Each with its own length."""
    found = planned(Recorded(7.0, b'[{"a":1}, {"a":123}, 3]', "/v2/models/f/"))
    assert [arrival.length for arrival in found.arrivals] == [7.0, 9.0, None]
    assert {arrival.at for arrival in found.arrivals} == {0.0}


def test_calls_that_were_refused_for_what_they_are_are_none():
    """They computed nothing; where there is no other there is nothing to plan for."""
    refused = Recorded(0.0, b"{}", was_refused=True)
    found = planned(refused, Recorded(5.0, None), Recorded(6.0, None))
    assert [arrival.at for arrival in found.arrivals] == [0.0, 1.0]
    expect_values(found.words, "2 calls", "1 left out")
    with pytest.raises(RequestError) as nothing:
        planned(refused)
    assert nothing.value.where == "--trace"


@pytest.mark.parametrize(("rate", "whole"), [(0.01, 10_000), (0.3, 333), (1.0, 100)])
def test_a_recorded_call_stands_for_those_that_were_not(rate, whole):
    """Within the time of what was recorded, as often as then; the recorded ones are among them."""
    calls = [Recorded(10.0 + number, b'{"text":"a"}', rate=rate) for number in range(100)]
    found = planned(*calls)
    assert len(found.arrivals) == pytest.approx(whole, rel=0.1)
    times = [arrival.at for arrival in found.arrivals]
    assert times == sorted(times)
    assert {float(number) for number in range(100)} <= set(times)
    assert (times[0], times[-1], found.until) == (0.0, 99.0, 100.0)
    assert {arrival.length for arrival in found.arrivals} == {12.0}
    assert sum(40 <= at < 60 for at in times) == pytest.approx(whole / 5, rel=0.25)
    assert ("recorded" in found.words) is (rate < 1)


def test_other_calls_stand_beside_the_recorded_ones_in_another_run():
    """By its seed; those that were recorded stay."""
    calls = [Recorded(float(number), None, rate=0.1) for number in range(30)]
    found = planned(*calls, seed=3)
    assert found.again(3) == found.arrivals != found.again(4)
    assert {float(number) for number in range(30)} <= {one.at for one in found.again(4)}


def test_the_share_that_was_recorded_may_change_within_a_file():
    """As where an operator has all calls recorded for a minute."""
    rare = [Recorded(10.0 * number, None, rate=0.1) for number in range(11)]
    dense = [Recorded(200.0 + number, None) for number in range(100)]
    found = planned(*rare, *dense)
    assert len(found.arrivals) == 110 + 100
    expect_values(found.words, "210", "52.9 %")


def test_rows_of_a_call_that_stands_for_others_come_together():
    """Each copy is a whole call."""
    calls = [Recorded(float(at), b'[{"text":"a"},{"text":"bc"}]', rate=0.5) for at in range(5)]
    arrivals = planned(*calls).arrivals
    assert len(arrivals) == 2 * 2 * 5
    by_time = Counter(arrival.at for arrival in arrivals)
    assert set(by_time.values()) == {2}


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([Recorded(0.0, None, rate=1e-9), Recorded(9.0, None)], ["1,000,000,001"]),
        ([Recorded(5.0, None, rate=0.01)] * 2, ["1 %", "one moment"]),
    ],
)
def test_a_share_that_says_too_much_or_too_little_is_refused(calls, words):
    """Before any call is made up."""
    with pytest.raises(RequestError) as refused:
        planned(*calls)
    assert refused.value.where == "--trace"
    expect_values(refused.value, *words)


def test_a_csv_is_read_as_by_scale(tmp_path):
    """With its own seconds where it has them."""
    (tmp_path / "calls.csv").write_text("at_s,function,service_s\n0,f,0.5\n2,f,\n")
    found = traffic.listed_traffic(tmp_path / "calls.csv", ["f"])
    assert found.arrivals == [Arrival(0.0, "f", 0.5), Arrival(2.0, "f")]


def test_a_damaged_csv_is_refused_by_its_lines(tmp_path):
    """Each with its reason."""
    (tmp_path / "calls.csv").write_text("at_s,function\nnow,f\n2,g\n")
    with pytest.raises(DeclarationError) as refused:
        traffic.listed_traffic(tmp_path / "calls.csv", ["f"])
    assert [(one.line, one.key) for one in refused.value.problems] == [(2, "at_s"), (3, "function")]


def test_more_recorded_calls_than_can_be_run_through_are_refused(monkeypatch):
    """With how many there are."""
    monkeypatch.setattr(traffic, "MOST_CALLS", 2)
    with pytest.raises(RequestError) as refused:
        planned(*[Recorded(float(number), None) for number in range(3)])
    expect_values(refused.value, "3", "2")


def test_a_capture_of_years_is_refused():
    """A function that is kept awake would be looked at five times a second of it."""
    with pytest.raises(RequestError) as refused:
        planned(Recorded(0.0, None), Recorded(1.7e9, None))
    assert refused.value.where == "--trace"
    expect_values(refused.value, "19676", "31")


def test_rows_beyond_the_profile_are_said():
    """Where length plays a part."""
    arrivals = [Arrival(0.0, "f", length=300.0), Arrival(1.0, "g", length=9.0)]
    (note,) = traffic.rows_of(arrivals, {"f": 160.0, "g": 160.0, "h": 0.0})
    expect_values(note, "f", "300", "160")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: traffic.steady_traffic({"f": 1e-9}, 10.0, seed=0), id="steady"),
        pytest.param(
            lambda: traffic.shaped_traffic("day", lambda seed: [], {"f": 1.0}, 10.0, 0), id="shaped"
        ),
    ],
)
def test_a_traffic_without_a_call_is_refused(make):
    """There is nothing to plan for."""
    with pytest.raises(RequestError) as refused:
        make()
    assert refused.value.where == "--for"


def test_a_rate_is_made_again_with_other_calls():
    """By another seed; what was recorded is not."""
    steady = traffic.steady_traffic({"f": 10.0}, 20.0, seed=0)
    assert steady.again(0) == steady.arrivals != steady.again(1)
    assert planned(Recorded(0.0, None)).again is None

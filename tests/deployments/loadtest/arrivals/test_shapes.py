"""Shapes of traffic: when their calls come, what is refused."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.loadtest.arrivals import SHAPES, Arrival, LoadShape, make_arrivals, parse_shape
from deployments.loadtest.arrivals.shapes import LONGEST_S, MOST_CALLS
from deployments.loadtest.results import files
from runtime.errors import DeclarationError, Problem
from tests.problems import expect_values, problems_in


def times_of(text: str, rate: float, seconds: float, seed: int = 1) -> list[float]:
    """When the calls of one function come."""
    shape = parse_shape(text, {}, {"f": rate}, seconds)
    return [arrival.at for arrival in make_arrivals(shape, seed)]


@pytest.mark.parametrize(
    ("text", "seconds", "expected"),
    [
        ("steady", 40, [(0, 10, 1000), (30, 40, 1000)]),
        ("steps:steps=4", 40, [(0, 10, 250), (10, 20, 500), (30, 40, 1000)]),
        ("ramp", 40, [(0, 20, 500), (20, 40, 1500)]),
        ("ramp:from=0.5", 40, [(0, 20, 1250), (20, 40, 1750)]),
        ("burst", 60, [(0, 25, 2500), (25, 35, 10_000), (35, 60, 2500)]),
        ("burst:factor=2,width=5,every=20", 40, [(7.5, 12.5, 1000), (27.5, 32.5, 1000)]),
        ("spike", 90, [(0, 70, 0), (70, 71, 1000), (71, 90, 1900)]),
        ("spike:quiet=5,width=5,factor=1", 20, [(0, 5, 0), (5, 10, 500), (10, 15, 0)]),
        ("day:noise=0", 40, [(0, 10, 1000 - 800 * 2 / math.pi), (0, 40, 4000)]),
    ],
)
def test_a_shape_has_its_rate_at_each_time(
    text: str, seconds: float, expected: list[tuple[float, float, float]]
):
    """At 100 calls a second: as many calls between two moments as the shape says, five standard
    deviations off at most.
    """
    times = times_of(text, 100.0, seconds)
    assert times == sorted(times)
    for begin, end, calls in expected:
        found = sum(begin <= at < end for at in times)
        assert abs(found - calls) <= 5 * math.sqrt(calls), (begin, end, found)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "trace"])
def test_what_is_to_be_expected_is_what_comes(name: str):
    """The average and the highest rate that a shape tells, against those of its calls."""
    shape = parse_shape(name, {}, {"f": 40.0, "g": 10.0}, 120.0)
    counts = Counter(arrival.function for arrival in make_arrivals(shape, seed=5))
    for function, rate in shape.average_rates.items():
        assert counts[function] == pytest.approx(rate * 120, rel=0.1)
    busiest = Counter(int(arrival.at) for arrival in make_arrivals(shape, seed=5)).most_common(1)
    assert busiest[0][1] <= shape.highest_rate + 5 * math.sqrt(shape.highest_rate)


def test_a_seed_gives_the_same_calls_and_a_function_its_own():
    """Whatever other functions are called beside it."""
    for name in ("steady", "burst", "day"):
        alone = times_of(name, 20.0, 60.0)
        both = parse_shape(name, {}, {"other": 5.0, "f": 20.0}, 60.0)
        beside = [one.at for one in make_arrivals(both, 1) if one.function == "f"]
        assert alone == beside != times_of(name, 20.0, 60.0, seed=2)


def test_calls_are_made_when_they_are_asked_for():
    """The first of four million come at once."""
    shape = parse_shape("steady", {}, {"f": MOST_CALLS / LONGEST_S}, LONGEST_S)
    assert len(list(islice(make_arrivals(shape, 0), 3))) == 3


RECORDED = [Arrival(at, "fg"[index % 2], index=index) for index, at in enumerate([0, 1, 1, 2, 4])]


def test_a_trace_is_sent_at_its_times():
    """All of it, faster, or its beginning; each call with its place in the record."""
    whole = parse_shape("trace", {}, {}, None, RECORDED)
    assert list(make_arrivals(whole, 0)) == RECORDED
    fast = parse_shape("trace", {"speed": "2"}, {}, None, RECORDED)
    assert [(one.at, one.index) for one in make_arrivals(fast, 0)] == [
        (0.0, 0),
        (0.5, 1),
        (0.5, 2),
        (1.0, 3),
        (2.0, 4),
    ]
    assert fast.highest_rate == 3
    cut = parse_shape("trace", {}, {}, 2.0, RECORDED)
    assert [one.at for one in make_arrivals(cut, 0)] == [0, 1, 1]
    assert cut.average_rates == {"f": 1.0, "g": 0.5}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("steady", 60.0), ("burst", 60.0), ("spike", 90.0), ("spike:quiet=5,width=3", 8.0)],
)
def test_a_shape_takes_the_time_that_it_needs(text: str, seconds: float):
    """Where none is given."""
    assert parse_shape(text, {}, {"f": 1.0}, None).seconds == seconds


def test_what_may_be_sent_can_be_written():
    """With what chance adds, many times over."""
    assert MOST_CALLS + 100 * math.sqrt(MOST_CALLS) < files.MOST_CALLS


def test_a_shape_is_told_as_it_is_given():
    """With the options that were left out."""
    shape = parse_shape("burst:factor=5", {"width": 4}, {"f": 1.0}, 90.0)
    assert str(shape) == "burst:factor=5,width=4,every=60"
    assert str(parse_shape("steady", {}, {"f": 1.0}, 90.0)) == "steady"
    assert parse_shape(str(shape), {}, {"f": 1.0}, 90.0) == shape


def refused(text: str, rates: dict[str, float], seconds: float | None) -> tuple[Problem, ...]:
    """The problems of a shape; of a trace, with calls on two days that are 12 hours apart."""
    recorded = [Arrival(0.0, "f"), Arrival(1.8e9, "f")] if text.startswith("trace") else []
    with pytest.raises(DeclarationError) as caught:
        parse_shape(text, {}, rates, seconds, recorded)
    return problems_in(caught.value)


@pytest.mark.parametrize(
    ("text", "rates", "seconds", "where", "values"),
    [
        ("stedy", {"f": 1.0}, 60.0, "", ["'stedy'", "'steady'?"]),
        ("wave", {"f": 1.0}, 60.0, "", ["'wave'", "steady", "trace"]),
        ("burst:factr=2", {"f": 1.0}, 60.0, "factr", ["burst", "'factor'?"]),
        ("steady:factor=2", {"f": 1.0}, 60.0, "factor", ["steady", "none"]),
        ("burst:factor", {"f": 1.0}, 60.0, "factor", ["'factor'", "NAME=NUMBER"]),
        ("burst:factor=2,factor=3", {"f": 1.0}, 60.0, "factor", ["twice"]),
        ("burst:factor=many", {"f": 1.0}, 60.0, "factor", ["'many'", "1 to 1000"]),
        ("burst:factor=nan", {"f": 1.0}, 60.0, "factor", ["'nan'", "1 to 1000"]),
        ("ramp:from=-1", {"f": 1.0}, 60.0, "from", ["'-1'", "0 to 1"]),
        ("steps:steps=2.5", {"f": 1.0}, 60.0, "steps", ["'2.5'", "whole"]),
        ("burst:width=60", {"f": 1.0}, 60.0, "width", ["60 s"]),
        ("burst:every=120", {"f": 1.0}, 60.0, "seconds", ["60 s", "65"]),
        ("spike", {"f": 1.0}, 60.0, "seconds", ["70 s", "60", "90"]),
        ("steady", {"f": -1.0}, 60.0, "rate of f", ["-1"]),
        ("steady", {"f": math.inf}, 60.0, "rate of f", ["inf"]),
        ("steady", {"f": 0.0}, 60.0, "rate", ["no function"]),
        ("steady", {}, 60.0, "rate", ["no function"]),
        ("steady", {"f": 1.0}, 0.0, "seconds", ["0 is given", "86400"]),
        ("steady", {"f": 1.0}, math.nan, "seconds", ["nan"]),
        ("steady", {"f": 1.0}, 86401.0, "seconds", ["86400"]),
        ("burst", {"f": 50.0}, 86400.0, "rate", ["10,800,000", "4,000,000"]),
        ("trace", {"f": 1.0}, 60.0, "rate", ["own rate"]),
        ("trace", {}, None, "", ["20,833.3 days", "first call"]),
    ],
)
def test_what_no_load_can_be_made_of_is_refused(
    text: str, rates: dict[str, float], seconds: float | None, where: str, values: list[str]
):
    """Before anything is sent, with the option that is at fault."""
    problem = refused(text, rates, seconds)[0]
    assert problem.key == where
    expect_values(problem.message, *values)


def test_a_trace_needs_calls_in_order_and_no_other_shape_takes_them():
    """Where they are recorded ones."""
    for text, recorded in (
        ("trace", []),
        ("trace", [Arrival(1.0, "f"), Arrival(0.0, "f")]),
        ("steady", RECORDED),
    ):
        rates = {} if text == "trace" else {"f": 1.0}
        with pytest.raises(DeclarationError, match="recorded calls"):
            parse_shape(text, {}, rates, None, recorded)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(set(SHAPES) - {"trace"})),
    values=st.dictionaries(
        st.sampled_from(["factor", "width", "every", "quiet", "period", "noise", "steps", "from"]),
        st.floats(0.01, 200) | st.integers(1, 100),
        max_size=2,
    ),
    rate=st.floats(0.001, 50),
    seconds=st.floats(0.01, 150),
)
def test_any_shape_is_refused_or_comes_in_order(
    name: str, values: dict[str, float], rate: float, seconds: float
):
    """Within its time, and no more calls than its highest rate explains."""
    kept = {key: value for key, value in values.items() if key in SHAPES[name].options}
    try:
        shape = parse_shape(name, kept, {"f": rate}, seconds)
    except DeclarationError:
        return
    assert isinstance(shape, LoadShape)
    times = [arrival.at for arrival in islice(make_arrivals(shape, 0), 20_000)]
    assert times == sorted(times)
    assert all(0 <= at <= seconds for at in times)
    expected = shape.highest_rate * seconds
    assert len(times) <= expected + 6 * math.sqrt(expected) + 10

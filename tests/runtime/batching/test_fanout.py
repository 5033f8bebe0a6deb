import threading
from dataclasses import dataclass

import numpy as np
import pytest

from runtime.batching.fanout import Way
from runtime.batching.rows import Call, Row
from runtime.branch import Condition
from runtime.errors import FunctionError, RequestError


@dataclass
class Step:
    """A segment, as far as the way of rows is concerned."""

    each: str | None = None
    when: Condition | None = None
    gives: tuple[str, ...] = ()


def call(*rows: dict[str, object]) -> list[Row]:
    """The rows of a call."""
    return Call(list(rows), request_id="", now=0.0, deadline=1.0).rows


def way(*segments: Step) -> Way:
    return Way(segments, threading.Lock())


def test_a_straight_way_leads_from_one_to_the_next() -> None:
    """Without branches and lists there is nothing to decide."""
    rows = call({"x": 1}, {"x": 2})
    straight = way(Step(), Step())
    assert straight.is_straight
    assert straight.onward(-1, rows) == ({0: rows}, [])
    assert straight.onward(0, rows) == ({1: rows}, [])
    assert straight.onward(1, rows) == ({}, rows)


def test_a_row_becomes_many_and_one_again() -> None:
    """Inner rows see the outer values and their element; what they gave is a list, in order."""
    (row,) = call({"page": "p", "crops": ["a", "b", "c"]})
    fan = way(Step(), Step("crops", gives=("text",)), Step(gives=("lines",)))
    onward, done = fan.onward(0, [row])
    inner = onward[1]
    assert not done
    assert [one.values["crops"] for one in inner] == ["a", "b", "c"]
    assert {one.values["page"] for one in inner} == {"p"}
    for one in inner:
        one.values["text"] = one.values["crops"].upper()
    assert fan.onward(1, [inner[2]]) == ({}, [])
    assert fan.onward(1, [inner[0]]) == ({}, [])
    assert fan.onward(1, [inner[1]]) == ({2: [row]}, [])
    assert row.values["text"] == ["A", "B", "C"]
    assert row.values["crops"] == ["a", "b", "c"]
    assert not row.inner


def test_consecutive_segments_over_one_list_keep_the_inner_rows() -> None:
    """They go on as they are, and both segments' values are gathered at the end."""
    (row,) = call({"crops": [1, 2]})
    fan = way(Step("crops", gives=("a",)), Step("crops", gives=("b",)))
    inner = fan.onward(-1, [row])[0][0]
    for one in inner:
        one.values["a"] = one.values["crops"]
    assert fan.onward(0, inner) == ({1: inner}, [])
    for one in inner:
        one.values["b"] = -one.values["a"]
    assert fan.onward(1, inner) == ({}, [row])
    assert (row.values["a"], row.values["b"]) == ([1, 2], [-1, -2])


def test_a_list_that_is_run_over_again_brings_what_it_gave_before() -> None:
    """With an outer segment in between; each inner row has its own value again."""
    (row,) = call({"crops": [1, 2], "a": [10, 20], "other": [7]})
    fan = way(Step("crops", gives=("a",)), Step(), Step("crops"))
    inner = fan.onward(1, [row])[0][2]
    assert [(one.values["crops"], one.values["a"], one.values["other"]) for one in inner] == [(1, 10, [7]), (2, 20, [7])]


def test_an_array_is_run_over_along_its_first_axis() -> None:
    """As a list of its slices."""
    (row,) = call({"x": np.arange(6).reshape(3, 2)})
    inner = way(Step("x")).onward(-1, [row])[0][0]
    assert [one.values["x"].tolist() for one in inner] == [[0, 1], [2, 3], [4, 5]]


def test_a_row_without_elements_goes_on_with_empty_lists() -> None:
    """Nothing runs for it, and it is answered."""
    (row,) = call({"crops": []})
    fan = way(Step("crops", gives=("a",)), Step("crops", gives=("b",)), Step())
    assert fan.onward(-1, [row]) == ({2: [row]}, [])
    assert (row.values["a"], row.values["b"]) == ([], [])


def test_an_inner_row_that_fails_fails_its_row_alone() -> None:
    """Its siblings are moot at once; the row leaves when the last of them has, with the first error; the other row is untouched."""
    bad, good = call({"crops": [1, 2]}, {"crops": [3]})
    fan = way(Step("crops", gives=("a",)))
    one, two, three = fan.onward(-1, [bad, good])[0][0]
    one.error = FunctionError("boom")
    assert fan.onward(0, [one]) == ({}, [])
    assert two.is_over(0.0)
    two.error = FunctionError("later")
    three.values["a"] = 3
    assert fan.onward(0, [two, three]) == ({}, [bad, good])
    assert bad.error is one.error
    assert good.error is None
    assert good.values["a"] == [3]


def test_too_many_elements_fail_the_row() -> None:
    """Nothing is unbounded, and the limit is named."""
    (row,) = call({"crops": list(range(9))})
    fan = way(Step("crops"), Step())
    fan.max_fan_out = 8
    assert fan.onward(-1, [row]) == ({}, [row])
    assert isinstance(row.error, RequestError)
    assert "limits.max_fan_out is 8" in row.error.message


@pytest.mark.parametrize(("flag", "goes_to"), [(True, 0), (False, 1)])
def test_a_row_skips_what_is_not_for_it(flag: bool, goes_to: int) -> None:
    """And goes to the next that is."""
    rows = call({"flag": flag})
    branches = way(Step(when=Condition("flag")), Step(when=Condition("flag", negated=True)), Step())
    assert branches.onward(-1, rows) == ({goes_to: rows}, [])


def test_an_inner_row_may_skip_too_and_its_place_is_none() -> None:
    """The list has as many entries as there are elements."""
    (row,) = call({"crops": [True, False]})
    fan = way(Step("crops", Condition("crops"), gives=("a",)), Step())
    (one,) = fan.onward(-1, [row])[0][0]
    one.values["a"] = 1
    assert fan.onward(0, [one]) == ({1: [row]}, [])
    assert row.values["a"] == [1, None]

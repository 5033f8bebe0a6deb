import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from runtime.batching.calls import Call, Row
from runtime.batching.fan_out import RowRouter
from runtime.batching.streams.elements import Window
from runtime.batching.streams.stream import Stream
from runtime.errors import FunctionError, RequestError
from runtime.types.conditions import Condition


@dataclass
class Step:
    """A segment, as far as the way of rows is concerned."""

    each: str | None = None
    when: Condition | None = None
    gives: tuple[str, ...] = ()
    element_order: Any = None


def call(*rows: dict[str, object]) -> list[Row]:
    """The rows of a call."""
    return Call(list(rows), request_id="", now=0.0, deadline=1.0).rows


def way(*segments: Step) -> RowRouter:
    return RowRouter(segments, threading.Lock())


def test_a_straight_way_leads_from_one_to_the_next() -> None:
    """Without branches and lists there is nothing to decide."""
    rows = call({"x": 1}, {"x": 2})
    straight = way(Step(), Step())
    assert straight.is_straight
    assert straight.route(-1, rows) == ({0: rows}, [])
    assert straight.route(0, rows) == ({1: rows}, [])
    assert straight.route(1, rows) == ({}, rows)


def test_a_row_becomes_many_and_one_again() -> None:
    """Inner rows see the outer values and their element; what they gave is a list, in order."""
    (row,) = call({"page": "p", "crops": ["a", "b", "c"]})
    fan = way(Step(), Step("crops", gives=("text",)), Step(gives=("lines",)))
    onward, done = fan.route(0, [row])
    inner = onward[1]
    assert not done
    assert [one.values["crops"] for one in inner] == ["a", "b", "c"]
    assert {one.values["page"] for one in inner} == {"p"}
    assert {one.share for one in inner} == {3}
    for one in inner:
        one.values["text"] = one.values["crops"].upper()
    assert fan.route(1, [inner[2]]) == ({}, [])
    assert fan.route(1, [inner[0]]) == ({}, [])
    assert fan.route(1, [inner[1]]) == ({2: [row]}, [])
    assert row.values["text"] == ["A", "B", "C"]
    assert row.values["crops"] == ["a", "b", "c"]
    assert not row.inner


def test_consecutive_segments_over_one_list_keep_the_inner_rows() -> None:
    """They go on as they are, and both segments' values are gathered at the end."""
    (row,) = call({"crops": [1, 2]})
    fan = way(Step("crops", gives=("a",)), Step("crops", gives=("b",)))
    inner = fan.route(-1, [row])[0][0]
    for one in inner:
        one.values["a"] = one.values["crops"]
    assert fan.route(0, inner) == ({1: inner}, [])
    for one in inner:
        one.values["b"] = -one.values["a"]
    assert fan.route(1, inner) == ({}, [row])
    assert (row.values["a"], row.values["b"]) == ([1, 2], [-1, -2])


def test_a_list_that_is_run_over_again_brings_what_it_gave_before() -> None:
    """With an outer segment in between; each inner row has its own value again."""
    (row,) = call({"crops": [1, 2], "a": [10, 20], "other": [7]})
    fan = way(Step("crops", gives=("a",)), Step(), Step("crops"))
    inner = fan.route(1, [row])[0][2]
    assert [(one.values["crops"], one.values["a"], one.values["other"]) for one in inner] == [
        (1, 10, [7]),
        (2, 20, [7]),
    ]


def test_an_array_is_run_over_along_its_first_axis() -> None:
    """As a list of its slices."""
    (row,) = call({"x": np.arange(6).reshape(3, 2)})
    inner = way(Step("x")).route(-1, [row])[0][0]
    assert [one.values["x"].tolist() for one in inner] == [[0, 1], [2, 3], [4, 5]]


def test_a_row_without_elements_goes_on_with_empty_lists() -> None:
    """Nothing runs for it, and it is answered."""
    (row,) = call({"crops": []})
    fan = way(Step("crops", gives=("a",)), Step("crops", gives=("b",)), Step())
    assert fan.route(-1, [row]) == ({2: [row]}, [])
    assert (row.values["a"], row.values["b"]) == ([], [])


def test_an_inner_row_that_fails_fails_its_row_alone() -> None:
    """Its siblings are cancelled at once; the row leaves when the last of them has, with the first
    error; the other row is untouched.
    """
    bad, good = call({"crops": [1, 2]}, {"crops": [3]})
    fan = way(Step("crops", gives=("a",)))
    one, two, three = fan.route(-1, [bad, good])[0][0]
    one.error = FunctionError("boom")
    assert fan.route(0, [one]) == ({}, [])
    assert two.is_over(0.0)
    two.error = FunctionError("later")
    three.values["a"] = 3
    assert fan.route(0, [two, three]) == ({}, [bad, good])
    assert bad.error is one.error
    assert good.error is None
    assert good.values["a"] == [3]


class Unread:
    """A value of so many elements, none of which is ever made."""

    def __len__(self) -> int:
        return 1_000_000

    def __iter__(self) -> Any:
        raise AssertionError


@pytest.mark.parametrize("crops", [list(range(9)), np.zeros((9, 2)), Unread()])
def test_too_many_elements_fail_the_row(crops):
    """Nothing is unbounded, and the limit is named. The next rows are not taken for such ones."""
    (row,) = call({"crops": crops})
    fan = way(Step("crops"), Step())
    fan.max_fan_out = 8
    assert fan.route(-1, [row]) == ({}, [row])
    assert isinstance(row.error, RequestError)
    assert "limits.max_fan_out is 8" in row.error.message
    assert fan.factor == [1.0, 1.0]


def test_rows_that_are_taken_tell_how_many_elements_a_row_has():
    """Of the segments that run over them; as many as there may be are taken."""
    fan = way(Step("crops"), Step())
    fan.max_fan_out = 8
    for row in call({"crops": [0] * 8}, {"crops": [0] * 8}):
        assert len(fan.route(-1, [row])[0][0]) == 8
    assert fan.factor[0] > 2
    assert fan.factor[1] == 1.0


@pytest.mark.parametrize(("flag", "goes_to"), [(True, 0), (False, 1)])
def test_a_row_skips_what_is_not_for_it(flag: bool, goes_to: int) -> None:
    """And goes to the next that is."""
    rows = call({"flag": flag})
    branches = way(Step(when=Condition("flag")), Step(when=Condition("flag", negated=True)), Step())
    assert branches.route(-1, rows) == ({goes_to: rows}, [])


def test_an_inner_row_may_skip_too_and_its_place_is_none() -> None:
    """The list has as many entries as there are elements."""
    (row,) = call({"crops": [True, False]})
    fan = way(Step("crops", Condition("crops"), gives=("a",)), Step())
    (one,) = fan.route(-1, [row])[0][0]
    one.values["a"] = 1
    assert fan.route(0, [one]) == ({1: [row]}, [])
    assert row.values["a"] == [1, None]


def test_a_value_that_is_given_again_for_the_row_is_the_rows() -> None:
    """What an earlier run gave under its name is no more: each inner row sees the value whole, not
    the letter at its place.
    """
    (row,) = call({"lines": ["a", "b"], "word": "A+B"})
    fan = way(Step("lines", gives=("word",)), Step(gives=("word",)), Step("lines"))
    inner = fan.route(1, [row])[0][2]
    assert [(one.values["lines"], one.values["word"]) for one in inner] == [
        ("a", "A+B"),
        ("b", "A+B"),
    ]


def test_a_list_that_is_given_again_has_new_elements() -> None:
    """What was given for those of the old one is a list like any other."""
    (row,) = call({"lines": ["b", "c"], "word": ["A", "B", "C"]})
    fan = way(Step("lines", gives=("word",)), Step(gives=("lines",)), Step("lines"))
    inner = fan.route(1, [row])[0][2]
    assert [(one.values["lines"], one.values["word"]) for one in inner] == [
        ("b", ["A", "B", "C"]),
        ("c", ["A", "B", "C"]),
    ]


def test_what_a_run_over_another_list_gave_again_is_whole() -> None:
    """Its place among the elements of that list is none among those of this one."""
    (row,) = call({"lines": ["a", "b"], "marks": [1, 2], "word": [10, 20]})
    fan = way(Step("lines", gives=("word",)), Step("marks", gives=("word",)), Step("lines"))
    inner = fan.route(1, [row])[0][2]
    assert [one.values["word"] for one in inner] == [[10, 20], [10, 20]]


def test_an_element_without_a_value_is_without_it_in_a_later_run_too() -> None:
    """Its place in the list is None, and a stage that has a default takes that; a None that a stage
    gave is a value.
    """
    (row,) = call({"lines": ["a", "b", "c"]})
    fan = way(
        Step("lines", gives=("word",)),
        Step(),
        Step("lines", gives=("word",)),
        Step(),
        Step("lines"),
    )
    inner = fan.route(-1, [row])[0][0]
    inner[0].values["word"], inner[1].values["word"] = "A", None
    fan.route(0, inner)
    assert row.values["word"] == ["A", None, None]
    again = fan.route(1, [row])[0][2]
    assert [one.values.get("word", "without") for one in again] == ["A", None, "without"]
    again[2].values["word"] = "C"
    fan.route(2, again)
    assert [one.values["word"] for one in fan.route(3, [row])[0][4]] == ["A", None, "C"]


def test_a_list_that_a_stage_has_changed_under_way_fails_its_row() -> None:
    """Elements and what was given for them no longer belong together."""
    short, long, good = call(
        {"lines": ["a"], "word": [1, 2]},
        {"lines": ["a", "b"], "word": [1]},
        {"lines": ["a"], "word": [1]},
    )
    fan = way(Step("lines", gives=("word",)), Step(), Step("lines"))
    onward, done = fan.route(1, [short, long, good])
    assert done == [short, long]
    assert isinstance(short.error, FunctionError)
    assert isinstance(long.error, FunctionError)
    assert [one.values["word"] for one in onward[2]] == [1]
    assert fan.factor == [1.0, 1.0, 1.0]  # the one that was taken has one


@pytest.mark.parametrize("value", [None, 3, "text", {"a": 1}, np.array(1.0), {1, 2}])
def test_a_row_whose_value_is_no_list_fails_alone(value: object) -> None:
    """Its batch-mates, and other callers' rows, go on; the error says what it is."""
    bad, good = call({"lines": value}, {"lines": ["a"]})
    onward, done = way(Step("lines")).route(-1, [bad, good])
    assert done == [bad]
    assert isinstance(bad.error, FunctionError)
    assert "'lines'" in bad.error.message
    assert [one.values["lines"] for one in onward[0]] == ["a"]


def test_a_row_whose_condition_cannot_be_read_fails_alone() -> None:
    """An array of many numbers is neither true nor false, and a value that is missing is
    neither.
    """
    many, missing, good = call({"flag": np.array([True, False])}, {}, {"flag": True})
    onward, done = way(Step(when=Condition("flag"))).route(-1, [many, missing, good])
    assert onward == {0: [good]}
    assert done == [many, missing]
    assert all(isinstance(row.error, FunctionError) for row in done)


def test_an_element_whose_condition_cannot_be_read_fails_its_row_alone() -> None:
    """As one that a stage failed."""
    bad, good = call({"lines": [[1, 2], [3]]}, {"lines": [[4]]})
    bad.values["lines"] = [np.array([1, 2]), np.array([1])]
    good.values["lines"] = [np.array([1])]
    fan = way(Step("lines", when=Condition("lines")), Step())
    onward, done = fan.route(-1, [bad, good])
    assert not done
    assert len(onward[0]) == 2
    ended = fan.route(0, onward[0])
    assert ended == ({1: [good]}, [bad])
    assert isinstance(bad.error, FunctionError)


def test_elements_that_are_not_begun_wait_at_their_first_segment() -> None:
    """Until the row leaves."""

    async def main() -> None:
        (row,) = call({"crops": list(range(9))})
        row.call.stream, row.call.deadline = Stream(asyncio.get_running_loop()), 1e12
        fan = way(Step(), Step("crops", gives=("a",), element_order="in order"))
        fan.window = Window(2, 4)
        assert len(fan.route(0, [row])[0][1]) == 2
        waiting = [0, 1]
        fan.add_unbegun(waiting)
        assert waiting == [0, 8]
        fan.remove([row])
        fan.add_unbegun(waiting)
        assert waiting == [0, 8]

    asyncio.run(main())

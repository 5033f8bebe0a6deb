"""What goes from one function to another, and what is made of the rest."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from runtime.errors import FunctionError
from runtime.protocol.row_values import carried, least_bytes
from tests.problems import expect_values


@dataclass
class Box:
    x: int


class Point(NamedTuple):
    x: int


@pytest.mark.parametrize(
    "value",
    [
        [1, "b"],
        (1, [2.5]),
        {"a": {"b": [None]}},
        {"a": 1},
        [np.float32(1), {"a": [2]}],
        [],
    ],
)
def test_what_goes_as_it_is_is_equal_and_shares_no_list(value: Any) -> None:
    """What the one function changes then, the other does not see."""
    there = carried(value, "x")
    assert there == value
    assert there == copy.deepcopy(value)
    assert there is not value or isinstance(value, tuple)


def test_an_array_goes_read_only_as_that_of_a_body_is() -> None:
    """Its memory is not copied; the sender may still write."""
    array = np.zeros(3)
    there = carried({"a": [array]}, "x")["a"][0]
    assert np.shares_memory(there, array)
    assert (there.flags.writeable, array.flags.writeable) == (False, True)


def test_an_array_of_text_goes_as_one_of_objects() -> None:
    """As it comes over a network, where its width is not known."""
    assert carried(np.array(["a", "bcd"]), "x").dtype == np.dtype(object)


@pytest.mark.parametrize(
    ("value", "there"),
    [
        (Box(1), {"x": 1}),
        ({"a": (Box(1), b"x")}, {"a": ({"x": 1}, b"x")}),
        (Point(1), [1]),
        ({2, 1}, [1, 2]),
        (deque([1]), [1]),
        (bytearray(b"x"), b"x"),
        (np.str_("x"), "x"),
        ({1: "a"}, {"1": "a"}),
    ],
    ids=repr,
)
def test_the_rest_is_sent_as_its_json(value: Any, there: Any) -> None:
    """Beside what goes as it is."""
    assert carried(value, "x") == there


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ([1, {"b": range}], ["x[1].b", "type"]),
        (np.zeros(1, np.complex64), ["x", "complex64"]),
        ({(1, 2): 1}, ["x", "keys"]),
        (np.array(["a", b"b"], object), ["x", "text", "bytes"]),
        ({"a": np.array([[1], None], object)}, ["x.a", "objects"]),
    ],
    ids=repr,
)
def test_what_has_no_form_is_named_by_its_place(value: Any, values: list[str]) -> None:
    """For the author."""
    expect_values(refused(value), *values)


def refused(value: Any) -> FunctionError:
    """The error of a value that has no form."""
    with pytest.raises(FunctionError) as caught:
        carried(value, "x")
    return caught.value


def test_what_is_within_itself_is_refused() -> None:
    """Instead of looked at without an end."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(FunctionError, match="nests deeper"):
        carried(value, "x")


def test_a_value_has_at_least_the_bytes_of_its_arrays_and_texts() -> None:
    """Numbers of a list are two characters each, with their comma."""
    assert (
        least_bytes({"a": np.zeros(3, np.float32), "b": ["ab", b"c"], "d": [1.5, 2], "e": None})
        == 12 + 3 + 4 + 1
    )


class Raises(dict[str, Any]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("items")


def test_an_object_that_fails_when_it_is_read_is_an_error_of_its_row() -> None:
    """And not of the call."""
    expect_values(refused({"a": Raises(b=1)}), "x", "RuntimeError")

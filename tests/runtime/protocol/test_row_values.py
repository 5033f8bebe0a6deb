"""What goes from one function to another, and what is made of the rest."""

from __future__ import annotations

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
        "a",
        b"a",
        [1, "b"],
        (1, [2.5]),
        {"a": {"b": [None]}},
        np.zeros(3),
        [np.float32(1), {"a": np.ones(2)}],
        [],
    ],
)
def test_what_goes_as_it_is_stays_the_same_object(value: Any) -> None:
    """No list is copied that has nothing else in it."""
    assert carried(value, "x") is value


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

"""Annotations that say nothing where they stand are refused, each with what to write."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.signature import read_signature
from tests.problems import expect_values
from wakeful import Header, Rows, Shape, State

OF_SHAPE = "Annotated[NDArray[np.float32], Shape(24)]"


def shape_in_brackets(x: Shape[3]) -> int: ...  # type: ignore[type-arg, valid-type]
def shape_beside(x: Rows[np.ndarray, Shape(24)]) -> Rows[int]: ...
def shape_of_rows(x: Rows[Shape(24)]) -> Rows[int]: ...
def shape_of_an_array(x: np.ndarray[Shape(24), np.dtype[np.float32]]) -> int: ...
def shape_of_a_text(x: Annotated[str, Shape(24)]) -> int: ...
def shape_given(x: int) -> Annotated[dict[str, int], Shape(24)]: ...
def rows_given(x: Rows[int]) -> Rows[np.ndarray, Shape(24)]: ...
def no_datatype(x: NDArray[np.complex64]) -> int: ...
def shape_of_a_list(x: Annotated[list[int], Shape(3)]) -> int: ...
def shape_of_a_tuple(x: Annotated[NDArray[np.float32], Shape((3, 4))]) -> int: ...  # type: ignore[arg-type]
def shape_of_nothing(x: Annotated[NDArray[np.float32], Shape]) -> int: ...
def header_of_nothing(x: Annotated[str, Header]) -> int: ...
def header_or_none(x: Annotated[str, Header("x-n")] | None) -> int: ...
def state_or_none(x: int, seen: State[int] | None) -> int: ...
def rows_of_nothing(x: Rows) -> Rows: ...
def rows_or_none(x: Rows[int] | None) -> Rows[int]: ...
def a_list(x: [str]) -> int: ...  # type: ignore[valid-type]
def a_mapping(x: int) -> {1: int}: ...  # type: ignore[valid-type]
def a_function(x: np.array) -> int: ...  # type: ignore[valid-type]
def any_written_small(x: list[any]) -> int: ...  # type: ignore[valid-type]
def half_a_dict(x: dict[str]) -> int: ...  # type: ignore[type-arg]


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (shape_in_brackets, ["TypeError", "Shape(3)"]),
        (no_datatype, ["'x'", "complex64"]),
        (shape_of_a_list, ["'x'", "Shape(3)"]),
        (shape_of_a_tuple, ["Shape((3, 4))", "each dimension"]),
        (shape_of_nothing, ["'x'", "Shape", "parentheses"]),
        (header_of_nothing, ["'x'", "Header", "parentheses"]),
        (header_or_none, ["'x'", "Header('x-n')", "another type"]),
        (state_or_none, ["'seen'", "State", "another type", "`State[T]`"]),
        (rows_of_nothing, ["'x'", "Rows", "of what", "`Rows[T]`"]),
        (rows_or_none, ["'x'", "Rows", "another type"]),
        (a_list, ["'x'", "[<class 'str'>]"]),
        (a_mapping, ["'return'", "{1: <class 'int'>}"]),
        (a_function, ["'x'", "function 'array'"]),
        (any_written_small, ["'x'", "function 'any'"]),
        (half_a_dict, ["'x'", "two types", "`dict[str, T]`"]),
        (shape_beside, ["'x'", f"Rows[{OF_SHAPE}]"]),
        (shape_of_rows, ["'x'", f"Rows[{OF_SHAPE}]"]),
        (shape_of_an_array, ["'x'", f" {OF_SHAPE}"]),
        (shape_of_a_text, ["'x'", f" {OF_SHAPE}"]),
        (shape_given, ["'return'", f" {OF_SHAPE}"]),
        (rows_given, ["'return'", f"Rows[{OF_SHAPE}]"]),
    ],
)
def test_an_annotation_that_says_nothing_is_refused(function, values):
    """It names the parameter, and what the annotation was meant to be."""
    with pytest.raises(SignatureError) as refused:
        read_signature(function)
    expect_values(str(refused.value), *values)

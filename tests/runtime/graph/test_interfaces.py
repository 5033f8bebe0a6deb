"""A function's face in plain data, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime.graph.graph import OMITTED, Port
from runtime.graph.interfaces import (
    fields_to_json,
    ports_from_json,
    type_from_json,
    type_to_json,
)
from runtime.types.value_types import elements_take_none, incompatibility, of_annotation
from wakeful import Shape


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float,
        bool,
        str,
        bytes,
        Annotated[int, Field(ge=1)],
        list[str],
        list[list[float]],
        Sequence[bytes],
        NDArray[np.float32],
        Annotated[NDArray[np.int64], Shape(-1, 3)],
        np.ndarray,
        dict[str, Any],
        Literal["a", "b"],
    ],
)
def test_a_type_comes_back_as_one_that_fits(annotation: Any) -> None:
    """Through JSON, both ways."""
    value = of_annotation(annotation)
    again = type_from_json(json.loads(json.dumps(type_to_json(value))))
    assert not incompatibility(value, again)
    assert not incompatibility(again, value)


@pytest.mark.parametrize("options", [("a", "b"), (1, 2), (True, False)])
def test_the_options_of_a_literal_come_back(options: tuple[Any, ...]) -> None:
    """Branches of a caller are compared with them."""
    literal: Any = Literal
    value = of_annotation(literal[options])
    again = type_from_json(json.loads(json.dumps(type_to_json(value))))
    assert get_args(again.annotation) == options


def test_other_types_still_do_not_fit() -> None:
    """What is wired wrong is found with the face as with the function."""
    text, data = (
        type_from_json(type_to_json(of_annotation(str))),
        type_from_json(type_to_json(of_annotation(bytes))),
    )
    assert incompatibility(text, data)
    assert incompatibility(text, of_annotation(int))
    assert incompatibility(
        type_from_json(type_to_json(of_annotation(Annotated[NDArray[np.float32], Shape(3)]))),
        of_annotation(Annotated[NDArray[np.float32], Shape(4)]),
    )


def test_fields_keep_their_defaults() -> None:
    """A field that may be left out is one for the caller too."""
    fields = {
        "text": Port("text", of_annotation(str), str),
        "k": Port("k", of_annotation(int), int, 3),
    }
    text, k = ports_from_json(json.loads(json.dumps(fields_to_json(fields))))
    assert (text.name, text.is_required, k.name, k.default) == ("text", True, "k", 3)


@pytest.mark.parametrize(
    "annotation",
    [
        Literal["bytes", "chars"],
        list[Literal["bytes"]],
        str,
        bytes,
        list[bytes],
        np.float32,
        list[np.int8],
    ],
)
def test_a_type_is_the_same_on_the_other_side(annotation):
    """Of text, whatever it says, and of numpy's scalars."""
    there = type_from_json(type_to_json(of_annotation(annotation)))
    assert not incompatibility(of_annotation(annotation), there)
    assert not incompatibility(there, of_annotation(annotation))
    assert (
        there.is_bytes
        == of_annotation(annotation).is_bytes
        == ("bytes" in str(annotation) and "Literal" not in str(annotation))
    )


@pytest.mark.parametrize(
    ("annotation", "default", "known"),
    [
        (list[float], [1.0, 2.0], [1.0, 2.0]),
        (list[list[int]], [[1], []], [[1], []]),
        (list[float] | None, None, None),
        (list[float], None, OMITTED),
        (str | None, None, None),
        (int | None, 3, 3),
        (bytes | None, None, None),
        (NDArray[np.float32] | None, None, None),
        (bytes, b"x", OMITTED),
        (float, float("nan"), OMITTED),
        (float, np.float32(1), OMITTED),
        (list[float], (1.0,), OMITTED),
        (NDArray[np.float32], np.zeros(2), OMITTED),
        (dict[str, Any], {"a": 1}, OMITTED),
    ],
)
def test_a_default_that_json_cannot_say_stays_with_its_function(
    annotation: Any, default: Any, known: Any
) -> None:
    """A caller leaves the field out."""
    fields = {"w": Port("w", of_annotation(annotation), annotation, default)}
    (port,) = ports_from_json(json.loads(json.dumps(fields_to_json(fields))))
    assert not port.is_required
    assert port.default is known or port.default == known


def test_an_optional_value_is_optional_for_the_caller() -> None:
    """A field that takes None, and a list that has gaps, as an element that skipped its stage
    leaves one.
    """
    fields = {
        "x": Port("x", of_annotation(int | None), int | None),
        "xs": Port("xs", of_annotation(list[list[int] | None]), list[list[int] | None]),
        "y": Port("y", of_annotation(list[int]), list[int]),
    }
    x, xs, y = ports_from_json(json.loads(json.dumps(fields_to_json(fields))))
    assert (x.can_be_missing, xs.can_be_missing, y.can_be_missing) == (True, False, False)
    assert (elements_take_none(xs.annotation), elements_take_none(y.annotation)) == (True, False)
    assert not incompatibility(of_annotation(list[list[int]]), xs.type)

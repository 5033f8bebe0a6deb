"""What annotations mean as tensors, and which values fit where."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Protocol,
    TypedDict,
)

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import TypeAliasType

from runtime.types.annotations import Shape
from runtime.types.tensors import TensorSpec
from runtime.types.value_types import (
    element_of,
    elements_take_none,
    incompatibility,
    is_bare_array,
    key_annotation,
    model_incompatibility,
    of_annotation,
    of_tensor,
    read_hints,
    required_keys,
)
from tests.problems import expect_values

FP32 = NDArray[np.float32]


class Point(TypedDict):
    """Two fields."""

    x: float
    y: float


class Half(TypedDict):
    """One of them may be missing."""

    x: float
    y: NotRequired[float]


class Speaks(Protocol):
    """What a class can do cannot be asked of it."""

    def speak(self) -> str:
        """Say something."""


class Dog:
    """It does."""

    def speak(self) -> str:
        """Say it."""
        return "woof"


class Marked(TypedDict):
    """A key that may be missing, with a note."""

    a: Annotated[NotRequired[int], "doc"]
    b: int


Name = NewType("Name", str)
Names = TypeAliasType("Names", list[str])


class Named(Point):
    """And one more."""

    name: str


@pytest.mark.parametrize(
    ("annotation", "datatype", "shape"),
    [
        (bool, "BOOL", [-1]),
        (int, "INT64", [-1]),
        (float | None, "FP64", [-1]),
        (str, "BYTES", [-1]),
        (bytes, "BYTES", [-1]),
        (Literal["a", "b"], "BYTES", [-1]),
        (list[float], "FP64", [-1, -1]),
        (list[list[int]], "INT64", [-1, -1, -1]),
        (FP32, "FP32", [-1, -1]),
        (Annotated[FP32, Shape(384)], "FP32", [-1, 384]),
        (dict[str, int], "BYTES", [-1]),
        (Any, "BYTES", [-1]),
        (Name, "BYTES", [-1]),
        (list[Annotated[int, {"no": "hash"}]], "INT64", [-1, -1]),
    ],
)
def test_an_annotation_is_a_tensor_on_the_wire(annotation, datatype, shape):
    """Datatype and shape, rows first, of each kind of annotation."""
    spec = of_annotation(annotation).tensor("x")
    assert (spec.datatype, list(spec.shape)) == (datatype, shape)


@pytest.mark.parametrize(
    ("given", "wanted", "values"),
    [
        (str, str, ()),
        (int, float, ()),
        (float, int, ("scalar FP64 []", "scalar INT64 []")),
        (str, bytes, ("str", "bytes")),
        (Any, str, ()),
        (str, Any, ()),
        (list[float], FP32, ("list FP64 [-1]", "array FP32 [?]")),
        (NDArray[np.int64], FP32, ("array INT64 [?]", "array FP32 [?]")),
        (FP32, np.ndarray, ()),
        (Annotated[FP32, Shape(3)], Annotated[FP32, Shape(4)], ("shape", "[3]", "[4]")),
        (Annotated[FP32, Shape(3)], Annotated[FP32, Shape(-1)], ()),
        (dict, str, ("dict", "scalar BYTES []")),
        (Point, Named, ("Point", "Named")),
        (Named, Point, ()),
        (list[Named], list[Point], ()),
        (Point, dict, ()),
        (dict, Point, ("dict", "Point")),
        (list[Half], list[Point], ("list[Half]", "list[Point]")),
        (Point, Half, ()),
        (int, object, ()),
        (int, int | str, ()),
        (int | str, int | str | None, ()),
        (int | str, int | bytes, ("int | str", "int | bytes")),
        (bool, int | str, ("scalar BOOL []", "int | str")),
        (list[int], list[int | str], ()),
        (list[str], list, ()),
        (FP32, list[object], ("array FP32 [?]", "list[object]")),
        (dict[str, int], dict, ()),
        (dict[str, int], Mapping, ()),
        (dict[str, int], typing.Dict[str, int], ()),  # noqa: UP006
        (dict[str, int], dict[str, str], ("dict[str, int]", "dict[str, str]")),
        (dict[str, Annotated[FP32, Shape(3)]], dict[str, Annotated[FP32, Shape(3)]], ()),
        (list[int], typing.List, ()),  # noqa: UP006
        (Dog, Speaks, ()),
        (Name, str, ()),
        (str, Name, ()),
        (list[str], list[bytes], ("str", "bytes")),
        (list[list[bytes]], list[list[str]], ("bytes", "str")),
        (Literal["a"], bytes, ("str", "bytes")),
        (Literal["a"], Literal["b"], ("'a'", "'b'")),
        (list[Literal["a"]], list[Literal["b", "c"]], ("'a'", "'b'", "'c'")),
        (Literal["a", "b"], Literal["b", "c"], ()),
        (str, Literal["b"], ()),
        (dict[str, int], Mapping[str, int], ()),
        (dict[str, int], Mapping[str, float], ()),
        (dict[str, str], Mapping[str, int], ("dict[str, str]", "Mapping[str, int]")),
        (Mapping[str, int], dict[str, int], ("Mapping[str, int]", "dict[str, int]")),
    ],
)
def test_values_between_python_stages(given, wanted, values):
    """An object is passed on as it is, so containers and datatypes must agree."""
    found = misfit(given, wanted)
    assert bool(found) is bool(values)
    expect_values(found, *values)


def misfit(given: Any, wanted: Any) -> str:
    """Why a value of one annotation is none of another."""
    return incompatibility(of_annotation(given), of_annotation(wanted)).replace(f"{__name__}.", "")


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (float, True),
        (list[float], False),
        (FP32, True),
        (Annotated[FP32, Shape(2)], False),
        (NDArray[np.float64], False),
        (str, False),
        (int, False),
    ],
)
def test_values_into_a_model(given, fits):
    """A model input FP32 [rows] takes Python floats and FP32 scalars, and nothing else."""
    wanted = of_tensor(TensorSpec("x", "FP32", (-1,)), rows=True)
    assert (model_incompatibility(of_annotation(given), wanted) == "") is fits


@pytest.mark.parametrize("of", [np.generic, np.number, np.floating, np.integer])
def test_an_array_of_a_kind_of_numbers_may_have_any_datatype(of):
    """numpy makes no dtype of the classes above its types."""
    assert of_annotation(NDArray[of]).datatype is None


@pytest.mark.parametrize("of", [list, typing.List, Sequence, typing.List[Any]])  # noqa: UP006
def test_a_list_that_does_not_say_of_what_has_elements(of):
    """Of which nothing is known."""
    found = element_of(of_annotation(of))
    assert found is not None
    assert found.is_any


@pytest.mark.parametrize(
    ("annotation", "takes"),
    [
        (list[int | None], True),
        (list[int | None] | None, True),
        (Sequence[int | None] | None, True),
        (Annotated[list[int | None] | None, "note"], True),
        (list[int] | None, False),
        (list[int], False),
        (list[list[int | None]], False),
    ],
)
def test_elements_that_may_be_none(annotation, takes):
    """Also of a list that may be None itself."""
    assert elements_take_none(annotation) is takes


@pytest.mark.parametrize(
    ("annotation", "is_bare"),
    [
        (FP32, True),
        (np.ndarray, True),
        (Annotated[FP32, Shape(3)], True),
        (Annotated[FP32, Shape(3)] | None, True),
        (Annotated[FP32 | None, Shape(3)], True),
        (Annotated[FP32, Shape(3), "any note"], False),
        (Annotated[FP32, "any note"] | None, False),
        (Annotated[FP32 | None, "any note"], False),
        (FP32 | list[float], False),
        (list[FP32], False),
        (float, False),
    ],
)
def test_an_array_without_a_note_of_the_authors(annotation, is_bare):
    """Any other note may be a check."""
    assert is_bare_array(annotation) is is_bare


def test_a_key_may_be_marked_within_its_notes():
    """In either order, as PEP 655 has it."""
    assert required_keys(Marked) == {"b"}
    assert key_annotation(read_hints(Marked)["a"]) == Annotated[int, "doc"]


def test_what_an_alias_stands_for_is_read():
    """At any depth, also of the aliases for older Pythons."""

    def stage(x: Names) -> dict[str, Names]: ...

    assert read_hints(stage) == {"x": list[str], "return": dict[str, list[str]]}


def test_an_array_of_an_unknown_datatype_is_refused():
    """complex64 has no place in the protocol."""
    with pytest.raises(TypeError, match="complex64"):
        of_annotation(NDArray[np.complex64])

"""What annotations mean as tensors, and which values fit where."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.types.annotations import Shape
from runtime.types.tensors import TensorSpec
from runtime.types.value_types import (
    incompatibility,
    model_incompatibility,
    of_annotation,
    of_tensor,
)

FP32 = NDArray[np.float32]


class Point(TypedDict):
    """Two fields."""

    x: float
    y: float


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
    ],
)
def test_an_annotation_is_a_tensor_on_the_wire(annotation, datatype, shape):
    """Datatype and shape, rows first, of each kind of annotation."""
    spec = of_annotation(annotation).tensor("x")
    assert (spec.datatype, list(spec.shape)) == (datatype, shape)


@pytest.mark.parametrize(
    ("given", "wanted", "why"),
    [
        (str, str, ""),
        (int, float, ""),
        (float, int, "it is scalar FP64 [], scalar INT64 [] is wanted"),
        (str, bytes, "it is str, bytes is wanted"),
        (Any, str, ""),
        (str, Any, ""),
        (list[float], FP32, "it is list FP64 [-1], array FP32 [?] is wanted"),
        (NDArray[np.int64], FP32, "it is array INT64 [?], array FP32 [?] is wanted"),
        (FP32, np.ndarray, ""),
        (Annotated[FP32, Shape(3)], Annotated[FP32, Shape(4)], "its shape is [3], [4] is wanted"),
        (Annotated[FP32, Shape(3)], Annotated[FP32, Shape(-1)], ""),
        (dict, str, "it is dict, scalar BYTES [] is wanted"),
        (Point, Named, "it is Point, Named is wanted"),
        (Named, Point, ""),
        (list[Named], list[Point], ""),
        (Point, dict, ""),
        (dict, Point, "it is dict, Point is wanted"),
    ],
)
def test_values_between_python_stages(given, wanted, why):
    """An object is passed on as it is, so containers and datatypes must agree."""
    assert incompatibility(of_annotation(given), of_annotation(wanted)) == why


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


def test_an_array_of_an_unknown_datatype_is_refused():
    """complex64 has no place in the protocol."""
    with pytest.raises(TypeError, match="complex64 is not a datatype"):
        of_annotation(NDArray[np.complex64])

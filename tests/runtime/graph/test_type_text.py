"""Types as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime.graph.graph import Port
from runtime.graph.interfaces import format_annotation, format_fields, format_type
from runtime.types.annotations import Shape, State
from runtime.types.value_types import of_annotation


class Found(TypedDict):
    """A row."""

    text: str


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "str"),
        (Annotated[int, Field(ge=1)], "int"),
        (list[float], "list[float]"),
        (Sequence[str] | None, "Sequence[str] | None"),
        (Literal["a", "b"], "'a' | 'b'"),
        (list[Found], "list[Found]"),
        (dict[str, Any], "dict[str, Any]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (np.ndarray, "np.ndarray"),
        (NDArray[np.int64], "NDArray[np.int64]"),
        (
            Annotated[NDArray[np.float32], Shape(2, -1)],
            "Annotated[NDArray[np.float32], Shape(2, -1)]",
        ),
        (State[int], "int | None"),
        (Any, "Any"),
    ],
)
def test_an_annotation_as_python_has_it(annotation, text):
    """Without what only checks a value."""
    assert format_type(annotation) == text
    assert format_annotation(of_annotation(annotation)).startswith(text.removesuffix(" | None"))


def test_fields_have_their_defaults():
    """As in a signature."""
    kinds = {"x": (str, None), "times": (int, 1)}
    fields = {
        name: Port(name, of_annotation(kind), kind, default)
        for name, (kind, default) in kinds.items()
    }
    assert (
        format_fields({"needed": Port("needed", of_annotation(bool), bool), **fields})
        == "needed: bool, x: str = None, times: int = 1"
    )

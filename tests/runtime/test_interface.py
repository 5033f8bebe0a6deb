"""A function's face in plain data, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime import Shape
from runtime.graph import Port
from runtime.interface import ports_of, takes_of, type_of, words_of
from runtime.values import misfit, of_annotation


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
    again = type_of(json.loads(json.dumps(words_of(value))))
    assert not misfit(value, again)
    assert not misfit(again, value)


def test_other_types_still_do_not_fit() -> None:
    """What is wired wrong is found with the face as with the function."""
    text, data = type_of(words_of(of_annotation(str))), type_of(words_of(of_annotation(bytes)))
    assert misfit(text, data)
    assert misfit(text, of_annotation(int))
    assert misfit(
        type_of(words_of(of_annotation(Annotated[NDArray[np.float32], Shape(3)]))), of_annotation(Annotated[NDArray[np.float32], Shape(4)])
    )


def test_fields_keep_their_defaults() -> None:
    """A field that may be left out is one for the caller too."""
    fields = {"text": Port("text", of_annotation(str), str), "k": Port("k", of_annotation(int), int, 3)}
    text, k = ports_of(json.loads(json.dumps(takes_of(fields))))
    assert (text.name, text.is_required, k.name, k.default) == ("text", True, "k", 3)

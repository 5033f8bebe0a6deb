"""Which stages can have a deployment of their own, by what they take and give."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime.graph.assembly import non_serializable_type, split_issues
from runtime.graph.python_stages.signature import read_signature
from tests import refusers
from wakeful import Rows, Shape, State


@dataclass
class Box:
    """Stays."""

    x: int


class Point(NamedTuple):
    """Would arrive as a plain tuple."""

    x: int


class Line(TypedDict):
    """Goes."""

    text: str
    box: tuple[int, int, int, int]
    pixels: NDArray[np.uint8]


class Tree(TypedDict):
    """Goes, and is within itself."""

    inner: list[Tree]


class Bad(TypedDict):
    """Has something in it that stays."""

    at: list[Path]


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (str, ""),
        (Annotated[float, Field(ge=0)], ""),
        (bytes | None, ""),
        (typing.Dict, ""),  # noqa: UP006  # as many write it
        (list[Annotated[int, {"no": "hash"}]], ""),
        (Optional[int], ""),  # noqa: UP045  # the old way of writing it is read as well
        (Literal["a", 1], ""),
        (list[Line], ""),
        (tuple[int, ...], ""),
        (Sequence[Annotated[NDArray[np.float32], Shape(3, -1)]], ""),
        (dict[str, Any], ""),
        (Mapping[str, list[float]], ""),
        (Tree, ""),
        (Any, ""),
        (list, ""),
        (np.float32, ""),
        (np.ndarray, ""),
        (Box, "Box"),
        (list[Box | None], "Box"),
        (Point, "Point"),
        (Bad, "Path"),
        (datetime | None, ""),
        (dict[int, str], "a dict with keys of int"),
        (set[str], "set"),
        (Path, "Path"),
        (np.complex64, "complex64"),
    ],
    ids=str,
)
def test_a_type_is_serializable_or_the_one_that_is_not_is_named(annotation: Any, name: str) -> None:
    """However deep it is."""
    assert non_serializable_type(annotation) == name


def good(lines: Rows[list[Line]], scale: Rows[float]) -> Rows[NDArray[np.float32]]:
    """Can be split off."""
    return []  # type: ignore[return-value]


def taking(box: Box) -> str:
    """Cannot."""
    return ""


def giving(text: str) -> list[Box]:
    """Cannot."""
    return []


def yielding(text: str) -> Iterator[str]:
    """Cannot."""
    yield text


def keeping(text: str, heard: State[int]) -> Line:
    """Cannot."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("stage", "reasons"),
    [
        (good, []),
        (taking, ["its 'box' is Box"]),
        (giving, ["what it gives is Box"]),
        (yielding, ["it yields"]),
        (keeping, ["its 'heard' is a State"]),
        (
            refusers.tell,
            ["its 'tenant' is a header of the request", "its 'key' is a header of the request"],
        ),
        (refusers.ids, []),
    ],
)
def test_a_stage_that_cannot_be_split_off_is_refused_with_the_reason(
    stage: Any, reasons: list[str]
) -> None:
    """By name, with what to give instead."""
    found = list(split_issues(read_signature(stage)))
    assert len(found) == len(reasons)
    assert all(one.startswith(start) for one, start in zip(found, reasons, strict=True))

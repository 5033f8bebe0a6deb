"""Which stages can have a deployment of their own, by what they take and give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime import Rows, Shape, State
from runtime.signature import read
from runtime.travel import misfits, staying


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

    when: list[datetime]


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (str, ""),
        (Annotated[float, Field(ge=0)], ""),
        (bytes | None, ""),
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
        (Bad, "datetime"),
        (dict[int, str], "a dict with keys of int"),
        (set[str], "set"),
        (Path, "Path"),
        (np.complex64, "complex64"),
    ],
    ids=str,
)
def test_a_type_goes_or_the_one_that_stays_is_named(annotation: Any, name: str) -> None:
    """However deep it stands."""
    assert staying(annotation) == name


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
    ("stage", "said"),
    [
        (good, []),
        (taking, ["its 'box' is Box"]),
        (giving, ["what it gives is Box"]),
        (yielding, ["it yields"]),
        (keeping, ["its 'heard' is a State"]),
    ],
)
def test_a_stage_is_told_why_it_cannot_be_split_off(stage: Any, said: list[str]) -> None:
    """By name, with what to give instead."""
    found = list(misfits(read(stage)))
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True))

"""A stage's signature read as its schema."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Annotated, TypedDict

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from runtime.annotations import Rows, Shape
from runtime.signature import SignatureError, read


class Pair(TypedDict):
    """Two values a row."""

    a: int
    b: Annotated[NDArray[np.float32], Shape(2)]


class Columns(TypedDict):
    """Two columns."""

    a: Rows[int]
    b: Rows[str]


class Mixed(TypedDict):
    """Neither."""

    a: Rows[int]
    b: str


def test_a_row_wise_stage():
    """Parameters with their defaults and constraints; one value under the stage's own name."""

    def stage(x: float, k: Annotated[int, pydantic.Field(gt=0)] = 2) -> float:
        return x * k

    signature = read(stage)
    assert [(param.name, param.required, param.rows) for param in signature.params] == [("x", True, False), ("k", False, False)]
    assert list(signature.gives) == [""]
    assert not signature.all_rows
    assert not signature.is_async


def test_a_typed_dict_names_the_values():
    """Each key of the returned TypedDict is a value."""

    def stage(x: float) -> Pair: ...

    assert list(read(stage).gives) == ["a", "b"]


def yields(x: float) -> Iterator[Pair]:
    """A generator."""
    yield {"a": 1, "b": np.ones(2, np.float32)}


async def yields_soon(x: float) -> AsyncIterator[int]:
    """An asynchronous one."""
    yield 1


def counts(x: float) -> Generator[int, None, str]:
    """A generator that returns something as well, which is left."""
    yield 1
    return "done"


def hands_on(x: float) -> Iterator[int]:
    """One that does not yield itself."""
    return iter((1, 2))


@pytest.mark.parametrize(
    ("stage", "gives", "is_async"), [(yields, ["a", "b"], False), (yields_soon, [""], True), (counts, [""], False), (hands_on, [""], False)]
)
def test_a_stage_that_yields(stage, gives, is_async):
    """What it is annotated to yield is what it gives."""
    signature = read(stage)
    assert signature.streams
    assert (list(signature.gives), signature.is_async, signature.all_rows) == (gives, is_async, False)


def unsaid(x: float) -> Iterator:
    """Of what?"""
    yield x


def unannotated(x: float) -> float:
    """A generator by mistake."""
    yield x


async def unannotated_soon(x: float) -> float:
    """An asynchronous one by mistake."""
    yield x


async def crossed(x: float) -> Iterator[float]:
    """Half asynchronous."""
    yield x


def crossed_over(x: float) -> AsyncIterator[float]:
    """The other half."""
    yield x


async def late(x: float) -> AsyncIterator[float]:
    """A coroutine that returns one."""
    return yields_soon(x)


def of_rows(x: Rows[float]) -> Iterator[Rows[float]]:
    """All rows."""
    yield x


def to_rows(x: float) -> Iterator[Rows[float]]:
    """All rows of one."""
    yield [x]


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (unsaid, "write '-> Iterator[T]'"),
        (unannotated, "yields, and is not annotated so; write '-> Iterator[T]'"),
        (unannotated_soon, "yields, and is not annotated so; write '-> AsyncIterator[T]'"),
        (crossed, "yields in an 'async def'; write '-> AsyncIterator[T]'"),
        (crossed_over, "yields in a plain function"),
        (late, "is a coroutine that returns AsyncIterator"),
        (of_rows, "annotate its parameters without Rows"),
        (to_rows, "annotate what it yields without Rows"),
    ],
)
def test_a_stage_that_yields_otherwise_than_it_says(stage, said):
    """Refused, with what to write."""
    with pytest.raises(SignatureError, match=re.escape(said)):
        read(stage)


def test_columns_and_rows():
    """A Rows stage gives a list of rows, or a TypedDict of columns."""

    def columns(text: Rows[str]) -> Columns: ...
    def rows(text: Rows[str]) -> Rows[Pair]: ...

    assert read(columns).columns
    assert read(columns).all_rows
    assert not read(rows).columns
    assert list(read(rows).gives) == ["a", "b"]


def test_a_class_is_read_by_its_call():
    """self is no parameter, and a coroutine is known as one."""

    class Stage:
        async def __call__(self, x: int) -> int:
            return x

    signature = read(Stage())
    assert [param.name for param in signature.params] == ["x"]
    assert signature.is_async


def no_annotation(x) -> int: ...
def no_return(x: int): ...
def star(*x: int) -> int: ...
def keyword(*, x: int) -> int: ...
def rows_out(x: int) -> Rows[int]: ...
def rows_in(x: Rows[int]) -> int: ...
def half_rows(x: Rows[int], k: int) -> Rows[int]: ...
def mixed(x: Rows[int]) -> Mixed: ...
def undefined(x: Nowhere) -> int: ...  # noqa: F821
def no_datatype(x: NDArray[np.complex64]) -> int: ...


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (no_annotation, "'x' has no annotation"),
        (no_return, "no return annotation"),
        (star, "must be an ordinary one"),
        (keyword, "must be an ordinary one"),
        (rows_out, "returns Rows but takes none"),
        (rows_in, "must return as many"),
        (half_rows, "'k' has a value for each row too"),
        (mixed, "Mixed mixes Rows and single values"),
        (undefined, "'Nowhere', which its module does not define"),
        (no_datatype, "complex64 is not a datatype"),
    ],
)
def test_what_is_no_stage(stage, message):
    """Each refusal says what to write instead."""
    with pytest.raises(SignatureError, match=message):
        read(stage)

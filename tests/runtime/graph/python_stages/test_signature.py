"""A stage's signature read as its schema."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.signature import read_signature
from runtime.types.annotations import Header, RequestId, Rows, Shape, State
from tests.problems import expect_values


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


def refused(function: Any) -> SignatureError:
    """The error of a callable that is no stage."""
    with pytest.raises(SignatureError) as caught:
        read_signature(function)
    return caught.value


def test_a_row_wise_stage():
    """Parameters with their defaults and constraints; one value under the stage's own name."""

    def stage(x: float, k: Annotated[int, pydantic.Field(gt=0)] = 2) -> float:
        return x * k

    signature = read_signature(stage)
    assert [(param.name, param.is_required) for param in signature.params] == [
        ("x", True),
        ("k", False),
    ]
    assert list(signature.gives) == [""]
    assert not signature.takes_rows
    assert not signature.is_async


def test_a_typed_dict_names_the_values():
    """Each key of the returned TypedDict is a value."""

    def stage(x: float) -> Pair: ...

    assert list(read_signature(stage).gives) == ["a", "b"]


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
    ("stage", "gives", "is_async"),
    [
        (yields, ["a", "b"], False),
        (yields_soon, [""], True),
        (counts, [""], False),
        (hands_on, [""], False),
    ],
)
def test_a_stage_that_yields(stage, gives, is_async):
    """What it is annotated to yield is what it gives."""
    signature = read_signature(stage)
    assert signature.is_generator
    assert (list(signature.gives), signature.is_async, signature.takes_rows) == (
        gives,
        is_async,
        False,
    )


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
    ("function", "values"),
    [
        (unsaid, ["Iterator", "'-> Iterator[T]'"]),
        (unannotated, ["not annotated", "'-> Iterator[T]'"]),
        (unannotated_soon, ["not annotated", "'-> AsyncIterator[T]'"]),
        (crossed, ["'async def'", "'-> AsyncIterator[T]'"]),
        (crossed_over, ["plain function", "'-> Iterator[T]'"]),
        (late, ["coroutine", "AsyncIterator"]),
        (of_rows, ["parameters without Rows"]),
        (to_rows, ["yields without Rows"]),
    ],
)
def test_a_stage_that_yields_otherwise_than_annotated_is_refused(function, values):
    """Refused, with what to write."""
    expect_values(refused(function), *values)


def test_columns_and_rows_are_distinguished_by_the_annotation():
    """A Rows stage gives a list of rows, or a TypedDict of columns."""

    def columns(text: Rows[str]) -> Columns: ...
    def rows(text: Rows[str]) -> Rows[Pair]: ...

    assert read_signature(columns).gives_columns
    assert read_signature(columns).takes_rows
    assert not read_signature(rows).gives_columns
    assert list(read_signature(rows).gives) == ["a", "b"]


def test_a_class_is_read_by_its_call():
    """self is no parameter, and a coroutine is known as one."""

    class Stage:
        async def __call__(self, x: int) -> int:
            return x

    signature = read_signature(Stage())
    assert [param.name for param in signature.params] == ["x"]
    assert signature.is_async


def plainly(function):
    """A decorator that is no coroutine, as many are."""

    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@plainly
async def wrapped(x: int) -> int:
    """It wraps a coroutine."""
    return x


def test_a_coroutine_behind_a_decorator_is_one():
    """`functools.wraps` names what is wrapped."""
    assert read_signature(wrapped).is_async


class Static:
    """A stage without a self."""

    @staticmethod
    def __call__(n: int) -> int:
        return n


class OfClass:
    """A stage of the class."""

    @classmethod
    def __call__(cls, n: int) -> int:
        return n


class Usual:
    """Whatever the first parameter is called."""

    def __call__(this, n: int) -> int:  # noqa: N805  # it need not be called self
        return n


def selfish(self: int, n: int) -> int:
    """A function has no self: this is a field."""
    return self + n


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (Static, ["n"]),
        (OfClass, ["n"]),
        (Usual, ["n"]),
        (Static(), ["n"]),
        (Usual(), ["n"]),
        (selfish, ["self", "n"]),
    ],
)
def test_only_ordinary_parameters_are_values(stage, names):
    """All but `self`."""
    assert [param.name for param in read_signature(stage).params] == names


class Partly(TypedDict):
    """A key that need not be there, and one that must."""

    a: int
    b: NotRequired[list[int]]


def test_a_key_may_be_missing():
    """It is known by its own type."""

    def stage(x: float) -> Partly: ...

    gives = read_signature(stage).gives
    assert [(name, value.may_lack, str(value)) for name, value in gives.items()] == [
        ("a", False, "scalar INT64 []"),
        ("b", True, "list INT64 [-1]"),
    ]


def no_annotation(x) -> int: ...
def no_return(x: int): ...
def star(*x: int) -> int: ...
def keyword(*, x: int) -> int: ...
def rows_out(x: int) -> Rows[int]: ...
def rows_in(x: Rows[int]) -> int: ...
def half_rows(x: Rows[int], k: int) -> Rows[int]: ...
def mixed(x: Rows[int]) -> Mixed: ...
def undefined(x: Nowhere) -> int: ...  # noqa: F821
def no_attribute(x: re.nothing) -> int: ...
def kept(x: int, seen: State[int] = 0) -> int: ...  # type: ignore[assignment]
def reserved(x: int, y: Annotated[str, Header("X-Wakeful-Call")]) -> int: ...
def identity(x: int, y: Annotated[str, Header("x-request-id")]) -> int: ...
def no_header(x: int, y: Annotated[str, Header("a b")]) -> int: ...
def number_header(x: int, y: Annotated[int, Header("x-n")]) -> int: ...
def header_by_rows(x: Rows[int], y: Annotated[str, Header("x-n")]) -> Rows[int]: ...
def header_default(x: int, y: Annotated[str, Header("x-n")] = 3) -> int: ...  # type: ignore[assignment]
def identity_default(x: int, y: RequestId = "a") -> int: ...


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (no_annotation, ["'x'", "`x: str`"]),
        (no_return, ["return annotation", "'-> float'"]),
        (star, ["'x'", "`x: T`"]),
        (keyword, ["'x'", "`x: T`"]),
        (functools.partial(no_return, 1), ["type partial"]),
        (np.abs, ["type ufunc"]),
        (rows_out, ["returns Rows", "Rows[...]"]),
        (rows_in, ["takes Rows", "'-> Rows[...]'"]),
        (half_rows, ["'k'", "Rows[...]"]),
        (mixed, ["Mixed", "Rows[...]"]),
        (undefined, ["'Nowhere'"]),
        (no_attribute, ["AttributeError", "'re'", "'nothing'"]),
        (max, ["not written in Python"]),
        (kept, ["state 'seen'", "default", "'if seen is None'"]),
        (reserved, ["'y'", "'x-wakeful-call'"]),
        (identity, ["'y'", "'x-request-id'", "`RequestId`"]),
        (no_header, ["'y'", "'a b'"]),
        (number_header, ["'y'", '`Annotated[str, Header("x-n")]`']),
        (header_by_rows, ["'y'", "Rows[...]"]),
        (header_default, ["'y'", "default 3"]),
        (identity_default, ["'y'", "request's id", "default"]),
    ],
)
def test_callables_that_are_no_stage_are_refused(function, values):
    """Each refusal says what to write instead."""
    expect_values(refused(function), *values)


def test_a_coroutine_takes_one_row():
    """With all rows it would get one after the other, silently."""

    async def soon(x: Rows[float]) -> Rows[float]:
        return x

    expect_values(refused(soon), "coroutine", "once a row")

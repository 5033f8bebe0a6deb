"""What a stage returned, compared with its annotation."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict

import httpx
import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.settings import Settings
from runtime.types.annotations import Rows, Shape
from runtime.types.returned_values import UnlikeError, declared_return
from tests.problems import expect_values

FP32 = Annotated[NDArray[np.float32], Shape(2)]


class Color(enum.StrEnum):
    """Text."""

    RED = "red"


class Item(TypedDict):
    """Keys are not looked at."""

    n: int


class Model(pydantic.BaseModel):
    """A class."""

    n: int


class Talks(Protocol):
    """A value that no condition can read."""

    def talk(self) -> str: ...


ONE = np.array(1.5, np.float32)


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (int, 1, 1),
        (int, np.int8(1), np.int8(1)),
        (int, np.longlong(1), np.longlong(1)),
        (int, True, 1),
        (int, np.True_, 1),
        (int, np.array(3), np.int64(3)),
        (float, 1, 1),
        (float, np.float32(1.5), np.float32(1.5)),
        (float, True, 1.0),
        (float, ONE, np.float32(1.5)),
        (float | None, None, None),
        (float | None, ONE, np.float32(1.5)),
        (bool, np.True_, np.True_),
        (str, np.str_("a"), np.str_("a")),
        (str, Color.RED, Color.RED),
        (bytes, bytearray(b"a"), b"a"),
        (Literal["a", "b"], np.str_("a"), "a"),
        (Literal[3], np.int64(3), 3),
        (list[float], (1.5,), (1.5,)),
        (list[float], np.ones(1), np.ones(1)),
        (Sequence[int], range(2), range(2)),
        (tuple[int, int], [1, 2], [1, 2]),
        (set[int], frozenset({1}), frozenset({1})),
        (dict[str, int], {}, {}),
        (Mapping[str, int], {}, {}),
        (Item, {"n": "x"}, {"n": "x"}),
        (FP32, np.ones(2, np.float32), np.ones(2, np.float32)),
        (FP32, np.ones(2, ">f4"), np.ones(2, np.float32)),
        (NDArray[np.str_], np.array(["a"]), np.array(["a"])),
        (np.ndarray, np.ones(2, complex), np.ones(2, complex)),
        (np.float32, 1.5, np.float32(1.5)),
        (np.float32, ONE, np.float32(1.5)),
        (dt.date, dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1)),
        (Color, Color.RED, Color.RED),
        (int | str, "a", "a"),
        (Any, 1j, 1j),
        (object, None, None),
        (Talks, 1, 1),
        (Annotated[float, pydantic.Field(ge=0)], 1.5, 1.5),
    ],
    ids=str,
)
def test_what_is_as_declared_is_taken(annotation, value, becomes):
    """As it is, or as the same value in the form that is declared."""
    known = declared_return(annotation)
    found = value if known is None or type(value) in known.quick else known.look(value)
    assert type(found) is type(becomes)
    assert np.array_equal(found, becomes)


@pytest.mark.parametrize(
    ("annotation", "value", "values"),
    [
        (float, "high", ["str 'high'", "float"]),
        (float, None, ["None", "float"]),
        (float | None, "high", ["str 'high'", "float"]),
        (int, 2.7, ["float 2.7", "int"]),
        (int, np.float32(2), ["float32 2.0", "int"]),
        (int, np.ones(2, int), ["an array int64 [2]", "int"]),
        (bool, 1, ["int 1", "bool"]),
        (str, b"a", ["bytes", "str"]),
        (str, 5, ["int 5", "str"]),
        (bytes, "x" * 99, ["str", "bytes"]),
        (Literal["a", "b"], "c", ["str 'c'", "one of 'a', 'b'"]),
        (Literal["a"], ["a"], ["list", "one of 'a'"]),
        (list[int], None, ["None", "list[int]"]),
        (list[str], "ab", ["str 'ab'", "list[str]"]),
        (list[int], {1}, ["set", "list[int]"]),
        (dict[str, int], [1], ["list", "dict[str, int]"]),
        (Item, None, ["None", "Item"]),
        (set[int], [1], ["list", "set[int]"]),
        (
            FP32,
            np.ones(2),
            ["an array float64 [2]", "an array FP32 [2]", ".astype(np.float32)"],
        ),
        (FP32, np.ones(3, np.float32), ["an array float32 [3]", "an array FP32 [2]"]),
        (FP32, [1.0, 2.0], ["list", "an array FP32 [2]", "np.asarray(…, np.float32)"]),
        (FP32 | None, 1.5, ["float 1.5", "an array FP32"]),
        (np.float32, "a", ["str 'a'", "float32"]),
        (np.int8, 1.5, ["float 1.5", "int8"]),
        (Model, {"n": 1}, ["dict", "Model"]),
        (dt.datetime, "2024-01-01", ["str '2024-01-01'", "datetime"]),
        (int | str, 1.5, ["float 1.5", "int or str"]),
        (None, 1, ["int 1", "None"]),
    ],
    ids=str,
)
def test_what_is_not_as_declared_is_reported(annotation, value, values):
    """With what it is and what it was to be."""
    expect_values(unlike(annotation, value), *values)


def unlike(annotation: Any, value: Any) -> UnlikeError:
    """The error of a value that is not as declared."""
    known = declared_return(annotation)
    assert known is not None
    assert type(value) not in known.quick
    with pytest.raises(UnlikeError) as caught:
        known.look(value)
    return caught.value


class Answer(TypedDict):
    """An answer of several values."""

    sentiment: str
    score: float
    note: NotRequired[str]


GIVEN: dict[int, Any] = {
    0: {"sentiment": "good", "score": 0.5},
    1: None,
    2: {"score": 0.5},
    3: {"sentiment": "good", "score": "high"},
    4: ["good"],
    5: {"sentiment": "good", "score": 0.5, "note": "n"},
}
VALUES = {
    1: ["stage 's'", "None", "Answer", "sentiment, score, note"],
    2: ["stage 's'", "'sentiment'", "Answer", "sentiment, score, note"],
    3: ["stage 's'", "'score'", "str 'high'", "float"],
    4: ["stage 's'", "list", "Answer", "sentiment, score, note"],
}
"""What the error of each that is wrong has to say."""


def one(n: int) -> Answer:
    """As a row of its own."""
    return GIVEN[n]


async def soon(n: int) -> Answer:
    """On the event loop."""
    return GIVEN[n]


def all_rows(n: Rows[int]) -> Rows[Answer]:
    """All rows at once."""
    return [GIVEN[row] for row in n]


def single(n: int) -> dict[str, Any]:
    """An answer that is an object by itself."""
    return GIVEN[n]


def streamed(n: int) -> Iterator[Answer]:
    """Item by item."""
    yield GIVEN[0]
    yield GIVEN[n]


async def streamed_soon(n: int) -> AsyncIterator[Answer]:
    """Item by item, on the event loop."""
    yield GIVEN[n]


def columns_of_none(n: Rows[int]) -> Columns:
    """Columns, and nothing."""
    return None  # type: ignore[return-value]


class Columns(TypedDict):
    """Columns."""

    a: Rows[int]


def columns(n: Rows[int]) -> Columns:
    """One of them wrong in one row."""
    return {"a": ["x" if row == 1 else row for row in n]}  # type: ignore[list-item]


def after(sentiment: str, note: str = "none") -> str:
    """Takes a value that may be missing."""
    return f"{sentiment} {note}"


def needs(note: str) -> str:
    """Cannot do without it."""
    return note


def called(work: Any, tmp_path: Any, *stages: str, **args: Any) -> Any:
    """Loads a function and calls it."""

    async def main() -> Any:
        graph = [
            {"stage": "s" if not index else stage, "python": f"{__name__}:{stage}"}
            for index, stage in enumerate(stages)
        ]
        spec = FunctionSpec.from_args("f", "/f", {"graph": graph} | args)
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        app = AsgiApp(FunctionHandler(function))

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/f"}, receive, send)

        try:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(mounted), base_url="http://test"
            ) as client:
                return await work(client)
        finally:
            await function.close(5)

    return asyncio.run(main())


@pytest.mark.parametrize("stage", ["one", "soon", "all_rows"])
def test_a_wrong_return_is_that_rows_error_and_names_the_stage(stage, tmp_path):
    """Its neighbours are answered; a key that need not be there is in the answer where it was
    given.
    """

    async def work(client: httpx.AsyncClient) -> None:
        rows = (await client.post("/f", json=[{"n": n} for n in GIVEN])).json()
        for n, values in VALUES.items():
            assert rows[n]["code"] == "function_failed"
            expect_values(rows[n]["error"], *values)
        assert [rows[0], rows[5]] == [GIVEN[0], GIVEN[5]]
        infer = {"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [0]}]}
        answer = await client.post("/f/infer", json=infer)
        assert (answer.status_code, answer.json()["where"]) == (400, "outputs")
        expect_values(answer.json()["error"], "'note'", "None")
        answer = await client.post("/f/infer", json={**infer, "outputs": [{"name": "score"}]})
        assert answer.json()["outputs"][0]["data"] == [0.5]

    called(work, tmp_path, stage)


def test_an_answer_that_is_no_object_is_its_rows_error(tmp_path):
    """First or last among its neighbours."""

    async def work(client: httpx.AsyncClient) -> None:
        for order in ([1, 0], [0, 1]):
            rows = (await client.post("/f", json=[{"n": n} for n in order])).json()
            assert rows[order.index(0)] == GIVEN[0]
            wrong = rows[order.index(1)]
            assert wrong["code"] == "function_failed"
            expect_values(wrong["error"], "stage 's'", "None", "dict[str, Any]")

    called(work, tmp_path, "single")


def test_columns_that_are_wrong(tmp_path):
    """One value of a column, and no columns at all."""

    async def work(client: httpx.AsyncClient) -> None:
        rows = (await client.post("/f", json=[{"n": n} for n in range(3)])).json()
        assert [row.get("a") for row in rows] == [0, None, 2]
        assert rows[1]["code"] == "function_failed"
        expect_values(rows[1]["error"], "stage 's'", "'a'", "str 'x'", "int")

    async def none(client: httpx.AsyncClient) -> None:
        answer = (await client.post("/f", json={"n": 1})).json()
        assert answer["code"] == "function_failed"
        expect_values(answer["error"], "stage 's'", "None", "Columns has a")

    called(work, tmp_path, "columns")
    called(none, tmp_path, "columns_of_none")


@pytest.mark.parametrize("stage", ["streamed", "streamed_soon"])
def test_an_item_that_is_wrong_ends_the_stream(stage, tmp_path):
    """With the same values in its error."""

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.post("/f", json={"n": 3}, headers={"accept": "application/x-ndjson"})
        assert "function_failed" in answer.text
        expect_values(answer.text, *VALUES[3])

    called(work, tmp_path, stage)


def test_a_value_that_may_be_missing_is_taken_by_a_parameter_that_may_be_missing(tmp_path):
    """A parameter with a default; any other is refused before anything starts."""

    async def work(client: httpx.AsyncClient) -> None:
        rows = (await client.post("/f", json=[{"n": 0}, {"n": 5}])).json()
        assert rows == [{"after": "good none"}, {"after": "good n"}]

    called(work, tmp_path, "one", "after")
    with pytest.raises(LoadError) as refused:
        called(work, tmp_path, "one", "needs")
    expect_values(refused.value, "stage 'needs'", "'note'")


def wrong_in_depth(n: int) -> Deep:
    """A type that only a look inside shows."""
    return {"found": [{"score": "high" if n else float("nan"), "more": True}]}  # type: ignore[list-item,typeddict-item]


class Found(TypedDict):
    """Within a list."""

    score: float


class Deep(TypedDict):
    """An answer with a list."""

    found: list[Found]


def complex_in_depth(n: int) -> dict[str, Any]:
    """What JSON has no form for."""
    return {"found": [np.ones(1, complex)] if n else []}


class Located(NamedTuple):
    """An array in one cannot come in a request; it can be answered."""

    at: NDArray[np.float32]


def located(n: int) -> Located:
    """A place."""
    return Located(np.ones(2, np.float32))


def half(n: int) -> list[int]:
    """No integers."""
    return [n / 2 if n else 0]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("one", None),
        ("located", None),
        ("wrong_in_depth", ["'found[0].score'", "a string", "a valid number"]),
        ("complex_in_depth", ["'found'", "JSON", "an array of complex128"]),
        ("half", ["'s[0]'", "fraction"]),
        ("streamed_wrong", ["'found[0].score'", "a string"]),
    ],
)
def test_the_answer_to_the_example_is_tried_before_the_first_call(stage, values, tmp_path):
    """Written in every form, and its values compared with what is declared, in depth; NaN and what
    is more are no faults.
    """

    async def work(client: httpx.AsyncClient) -> int:
        return (await client.post("/f", json={"n": 0})).status_code

    assert called(work, tmp_path, stage, example={"n": 0}) == 200
    if values is not None:
        with pytest.raises(LoadError) as refused:
            called(work, tmp_path, stage, example={"n": 1})
        expect_values(refused.value, "stage 's'", *values)


def streamed_wrong(n: int) -> Iterator[Deep]:
    """As ``wrong_in_depth``."""
    yield wrong_in_depth(n)


def test_by_tensors_a_list_of_another_kind_is_the_authors_error(tmp_path):
    """Not cut to integers."""

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/f/infer",
            json={"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]},
        )
        assert (answer.status_code, answer.json()["code"]) == (500, "function_failed")
        expect_values(answer.json()["error"], "'s'", "0.5", "INT64")

    called(work, tmp_path, "half")


def nothing(n: int) -> Iterator[Deep]:
    """A stream without items."""
    return iter(())


def pairs(n: int) -> list[int]:
    """What the next runs over."""
    return [0, 5]


def of_each(pairs: int) -> Answer:
    """Of one element."""
    return GIVEN[pairs]


def gathered(note: list[str | None]) -> str:
    """Of all elements, and of some there is none."""
    return str(note)


def test_a_stream_without_items_is_none_at_fault(tmp_path):
    """Its example shows nothing."""

    async def work(client: httpx.AsyncClient) -> Any:
        return (
            await client.post("/f", json={"n": 0}, headers={"accept": "application/json"})
        ).json()

    assert called(work, tmp_path, "nothing", example={"n": 0}) == []


def test_of_elements_a_value_may_be_missing_too(tmp_path):
    """None is in its place."""

    async def work(client: httpx.AsyncClient) -> Any:
        return (await client.post("/f", json={"n": 0})).json()

    graph = [
        {"stage": "pairs", "python": f"{__name__}:pairs"},
        {"stage": "of_each", "python": f"{__name__}:of_each", "each": "pairs"},
        {"stage": "gathered", "python": f"{__name__}:gathered"},
    ]
    assert called(work, tmp_path, graph=graph) == {"gathered": "[None, 'n']"}

"""What a stage may take and give, by both wires: each annotation with values that come back as they
went, and values that are refused.

The stage of a case hands on what it takes. By JSON the value is sent as it is here; as a tensor
(Open Inference Protocol v2) in the form that the function's metadata has for it, where anything
that is no number, text or array is JSON text in a BYTES element.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import sys
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    Union,
)

import httpx
import numpy as np
import pydantic
import pytest
import typing_extensions
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.graph.assembly import assemble
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.settings import Settings
from runtime.types.annotations import Shape
from runtime.types.value_types import of_annotation

HERE = sys.modules[__name__]
NOTHING: Any = object()
"""The field is left out."""


class Color(enum.Enum):
    """Text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Numbers."""

    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    label: str = "p"


class Item(TypedDict):
    """Of the standard library, on any Python."""

    n: int
    note: NotRequired[str]


class Tree(TypedDict):
    """Within itself."""

    n: int
    kids: list[Tree]


class Mixed(TypedDict, total=False):
    """A key that needs a reader of its own, next to one that has one."""

    vector: NDArray[np.float32]
    day: dt.date
    pair: tuple[int, int]


class Other(typing_extensions.TypedDict):
    """Of the other library."""

    n: int


@dataclasses.dataclass
class Box:
    """A dataclass."""

    width: int
    data: bytes = b""
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Held:
    """One with what pydantic cannot read."""

    vector: NDArray[np.float32]
    item: Item | None = None


@dataclasses.dataclass
class Chain:
    """Within itself."""

    n: int
    next: Chain | None = None


class Inner(pydantic.BaseModel):
    """Within another."""

    n: int
    when: dt.date | None = None


class Model(pydantic.BaseModel):
    """A model of pydantic's."""

    inner: Inner
    pair: tuple[int, int] = (1, 2)


Name = NewType("Name", str)


@dataclasses.dataclass
class Case:
    """An annotation.

    Attributes:
        good: values as JSON has them, and what the stage sees of them.
        bad: values that are refused.
        back: what comes back by JSON, where that is something else.
        texts: values as elements of a BYTES tensor have them, where JSON has them otherwise.
    """

    of: Any
    good: Sequence[tuple[Any, Any]]
    bad: Sequence[Any] = ()
    back: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default: Any = NOTHING


def array(dtype: Any, *shape: int) -> Any:
    """The annotation of an array."""
    return Annotated[NDArray[dtype], Shape(*shape)] if shape else NDArray[dtype]


HI = {"aGk=": "hi", "": ""}
CASES = [
    Case(bool, [(True, True), (False, False)], [1, 0, "true", None, []]),
    Case(
        int,
        [(0, 0), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)],
        [1.0, True, "1", None, [1], 1e3],
    ),
    Case(float, [(1.5, 1.5), (-0.0, 0.0), (1e300, 1e300)], [True, "1", None, [1.0]]),
    Case(str, [("", ""), ("é\x00\U0001f600", "é\x00\U0001f600")], [1, None, ["a"], {}]),
    Case(bytes, [("aGk=", b"hi"), ("", b"")], [1, None, "hi!", ["aGk="]], texts=HI),
    Case(Literal["bytes", "chars"], [("bytes", "bytes"), ("chars", "chars")], ["x", 1, None]),
    Case(Literal[1, 2], [(1, 1), (2, 2)], [3, "1", None]),
    Case(Literal[Color.RED], [("red", Color.RED)], ["blue", 1, None]),
    Case(Literal["a"] | Literal[1], [("a", "a"), (1, 1)], ["b", 2, None]),
    Case(Any, [(1, 1), ([1, "a", None], [1, "a", None]), ({"a": {}}, {"a": {}}), (None, None)]),
    Case(object, [("a", "a"), (None, None)]),
    Case(Color, [("red", Color.RED)], ["green", 1, None, "RED"]),
    Case(Level, [(1, Level.LOW), (2, Level.HIGH)], [3, "1", None]),
    Case(
        dt.datetime,
        [("2024-05-06T07:08:09", dt.datetime(2024, 5, 6, 7, 8, 9))],
        [1, 1.5, None, "noon", True],
    ),
    Case(dt.date, [("2024-05-06", dt.date(2024, 5, 6))], [1, None, "2024-13-01"]),
    Case(dt.time, [("07:08:09", dt.time(7, 8, 9))], [1, None, "25:00"]),
    Case(
        dt.timedelta,
        [("PT1H", dt.timedelta(hours=1)), ("P1DT1S", dt.timedelta(1, 1))],
        [1, None, "soon"],
    ),
    Case(uuid.UUID, [("00000000-0000-0000-0000-00000000000a", uuid.UUID(int=10))], [10, None, "a"]),
    Case(decimal.Decimal, [("1.50", decimal.Decimal("1.50"))], [None, "x", True, []]),
    Case(pathlib.Path, [("a/b", pathlib.Path("a/b"))], [1, None]),
    Case(Name, [("a", "a")], [1, None]),
    Case(Point, [([1, "q"], Point(1, "q"))], [["1", "q"], [], None, [1, "q", 2]]),
    Case(
        Item,
        [({"n": 1}, {"n": 1}), ({"n": 1, "note": "x"}, {"n": 1, "note": "x"})],
        [{"n": "1"}, {}, {"n": 1, "nope": 1}, None, []],
    ),
    Case(Other, [({"n": 1}, {"n": 1})], [{"n": "1"}, {}, None]),
    Case(
        Tree,
        [({"n": 1, "kids": [{"n": 2, "kids": []}]}, {"n": 1, "kids": [{"n": 2, "kids": []}]})],
        [{"n": 1, "kids": [{"n": 2}]}],
    ),
    Case(
        Mixed,
        [
            ({"day": "2024-05-06", "pair": [1, 2]}, {"day": dt.date(2024, 5, 6), "pair": (1, 2)}),
            ({}, {}),
        ],
        [{"pair": [1]}, None],
    ),
    Case(
        Box,
        [({"width": 1, "data": "aGk=", "tags": ["a"]}, Box(1, b"hi", {"a"}))],
        [{"width": "1"}, {}, {"width": 1, "x": 1}, None],
    ),
    Case(
        Chain,
        [({"n": 1, "next": {"n": 2, "next": None}}, Chain(1, Chain(2)))],
        [{"n": 1, "next": {"n": "2"}}],
    ),
    Case(
        Inner,
        [({"n": 1, "when": "2024-05-06"}, Inner(n=1, when=dt.date(2024, 5, 6)))],
        [{"n": "1"}, {}, None],
    ),
    Case(
        Model,
        [({"inner": {"n": 1, "when": None}, "pair": [3, 4]}, Model(inner=Inner(n=1), pair=(3, 4)))],
        [{"inner": {"n": "1"}}],
    ),
    Case(
        list[int], [([], []), ([1, 2], [1, 2])], [[1.5], ["1"], [True], None, 1, [None], {"a": 1}]
    ),
    Case(list[str], [(["a", ""], ["a", ""])], [[1], None, "a", [None]]),
    Case(list[bytes], [(["aGk=", ""], [b"hi", b""])], [["hi!"], [1], None], texts=HI),
    Case(list[list[float]], [([[1.5], [2.0]], [[1.5], [2.0]])], [[1.5], [["a"]], None]),
    Case(typing.List, [([1, "a"], [1, "a"])], [1, None]),  # noqa: UP006  # as many write it
    Case(typing.Sequence, [([1, "a"], [1, "a"])], [1, None]),
    Case(typing.Mapping, [({"a": 1}, {"a": 1})], [[1], None]),
    Case(list[Any], [([1, "a"], [1, "a"])], [1, None]),
    Case(list, [([1, "a"], [1, "a"])], [1, None]),
    Case(Sequence[int], [([1, 2], [1, 2])], ["ab", [1.5], None]),
    Case(list[Item], [([{"n": 1}], [{"n": 1}])], [[{"n": "1"}], [{}], None]),
    Case(list[Box], [([{"width": 1, "data": "", "tags": []}], [Box(1)])], [[{"width": "1"}], None]),
    Case(list[Color], [(["red", "blue"], [Color.RED, Color.BLUE])], [["green"], None]),
    Case(list[dt.date], [(["2024-05-06"], [dt.date(2024, 5, 6)])], [[1], ["x"], None]),
    Case(list[Literal["a", "b"]], [(["a", "b"], ["a", "b"])], [["c"], None]),
    Case(tuple[int, int], [([1, 2], (1, 2))], [[1], [1, 2, 3], ["1", 2], None]),
    Case(tuple[str, ...], [(["a", "b"], ("a", "b")), ([], ())], [[1], None, "ab"]),
    Case(tuple[bytes, int], [(["aGk=", 1], (b"hi", 1))], [["hi!", 1], ["aGk=", "1"]]),
    Case(set[int], [([1, 2], {1, 2})], [["1"], None, 1]),
    Case(frozenset[str], [(["a", "b"], frozenset("ab"))], [[1], None]),
    Case(collections.deque[int], [([1, 2], collections.deque([1, 2]))], [["1"], None]),
    Case(dict[str, int], [({"a": 1}, {"a": 1}), ({}, {})], [{"a": "1"}, [1], None]),
    Case(dict[int, str], [({"1": "a"}, {1: "a"})], [{"x": "a"}, {"1": 1}, None]),
    Case(dict[Color, int], [({"red": 1}, {Color.RED: 1})], [{"green": 1}, None]),
    Case(Mapping[str, list[int]], [({"a": [1]}, {"a": [1]})], [{"a": ["1"]}, None]),
    Case(dict, [({"a": [1, None]}, {"a": [1, None]})], [[1], None]),
    Case(int | None, [(1, 1), (None, None), (NOTHING, None)], ["1", 1.5], default=None),
    Case(Optional[str], [("a", "a"), (None, None)], [1]),  # noqa: UP045  # as many write it
    Case(
        bytes | None,
        [("aGk=", b"hi"), (None, None), (NOTHING, None)],
        ["hi!", 1],
        texts=HI,
        default=None,
    ),
    Case(
        dt.date | None,
        [("2024-05-06", dt.date(2024, 5, 6)), (None, None), (NOTHING, None)],
        [1, "x"],
        default=None,
    ),
    Case(Union[int, str], [(1, 1), ("a", "a")], [1.5, None, []]),  # noqa: UP007  # as many write it
    Case(int | list[int], [(1, 1), ([1, 2], [1, 2])], ["a", ["a"], None]),
    Case(Annotated[int, pydantic.Field(ge=1, le=9)], [(1, 1), (9, 9)], [0, 10, "1"]),
    Case(Annotated[str, pydantic.Field(pattern="^a+$")], [("aa", "aa")], ["b", 1]),
    Case(Annotated[list[int], pydantic.Field(min_length=1)], [([1], [1])], [[], ["a"]]),
    Case(Annotated[bytes, pydantic.Field(max_length=2)], [("aGk=", b"hi")], ["aGkh", 1], texts=HI),
    Case(Annotated[tuple[int, ...], pydantic.Field(min_length=1)], [([1], (1,))], [[], ["a"]]),
    Case(
        np.float32,
        [(1.5, np.float32(1.5)), (1, np.float32(1))],
        ["1", None, 1e39, True],
        back={"1": 1.0},
    ),
    Case(np.int8, [(-128, np.int8(-128))], [128, 1.5, "1", None]),
    Case(np.bool_, [(True, np.True_)], [1, None]),
    Case(list[np.uint16], [([1, 2], [np.uint16(1), np.uint16(2)])], [[-1], ["1"]]),
    Case(
        array(np.float32),
        [([1.5, 2.5], np.array([1.5, 2.5], np.float32))],
        [["a"], [True], [None], {"a": 1}, None],
    ),
    Case(
        array(np.float32, 2),
        [([1.0, 2.0], np.ones(2) * [1, 2])],
        [[1.0], [[1.0, 2.0]], [1e39, 1.0], ["a", "b"]],
    ),
    Case(
        array(np.float64, 2, -1),
        [([[1.0, 2.0], [3.0, 4.0]], np.array([[1, 2], [3, 4.0]]))],
        [[[1.0], [2.0, 3.0]], [1.0]],
    ),
    Case(
        array(np.int64, -1),
        [([1, 2**63 - 1], np.array([1, 2**63 - 1]))],
        [[1.5], [2**63], [True], ["1"]],
    ),
    Case(array(np.longlong, -1), [([1, 2], np.array([1, 2]))], [[1.5], ["1"]]),
    Case(array(np.uint8, 2), [([0, 255], np.array([0, 255], np.uint8))], [[0, 256], [-1, 0]]),
    Case(array(np.bool_, 2), [([True, False], np.array([True, False]))], [[1, 0], ["a", "b"]]),
    Case(
        array(np.str_, 2),
        [(["a\x00", "é"], np.array(["a\x00", "é"], object))],
        [["a", 1], [None, "a"], [True, "a"]],
    ),
    Case(array(np.object_, 2), [(["a", "b"], np.array(["a", "b"], object))], [["a", 1], ["a"]]),
    Case(
        NDArray[np.float32] | None,
        [([1.5], np.array([1.5], np.float32)), (None, None), (NOTHING, None)],
        [["a"]],
        default=None,
    ),
    Case(
        list[NDArray[np.float32]],
        [([[1.5], [2.5, 3.5]], [np.array([1.5]), np.array([2.5, 3.5])])],
        [[["a"]], [1, [[2], 3]], None],
    ),
    Case(
        dict[str, NDArray[np.int64]],
        [({"a": [1, 2]}, {"a": np.array([1, 2])})],
        [{"a": [1.5]}, None],
    ),
    Case(
        Held,
        [({"vector": [1.5], "item": {"n": 1}}, Held(np.array([1.5]), {"n": 1}))],
        [{"vector": ["a"]}, {}, {"vector": [1], "x": 1}],
    ),
    Case(
        tuple[str, NDArray[np.float32]],
        [(["a", [1.5]], ("a", np.array([1.5])))],
        [["a", ["b"]], ["a"]],
    ),
]


def title(case: Case) -> str:
    """An annotation as a test's name."""
    return (
        str(case.of)
        .replace("typing.", "")
        .replace("tests.runtime.graph.test_annotations_table.", "")
        .replace("<", "")
        .replace(">", "")[:60]
    )


seen: list[Any] = []
"""What stages took."""


def stage(case: Case) -> str:
    """Makes a stage that hands on what it takes, and gives its name."""

    def echo(v: Any) -> Any:
        seen.append(v)
        return {"v": v, "n": 1}

    echo.__annotations__ = {
        "v": case.of,
        "return": TypedDict(f"Answer{CASES.index(case)}", {"v": case.of, "n": int}),
    }  # type: ignore[misc]
    echo.__defaults__ = None if case.default is NOTHING else (case.default,)
    setattr(HERE, name := f"echo_{CASES.index(case)}", echo)
    return f"{__name__}:{name}"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of one type, arrays in them compared whole."""
    if isinstance(other, np.ndarray):
        return (
            isinstance(one, np.ndarray)
            and one.shape == other.shape
            and one.tolist() == other.tolist()
        )
    if type(one) is not type(other):
        return False
    if isinstance(other, Held):
        return same(one.vector, other.vector) and same(one.item, other.item)
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same(one[key], value) for key, value in other.items()
        )
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def tensor(case: Case, value: Any) -> dict[str, Any]:
    """A value as the input of a v2 request."""
    kind = of_annotation(case.of)
    spec = kind.tensor("v")
    if kind.container == "object":
        return {"name": "v", "datatype": "BYTES", "shape": [1], "data": [json.dumps(value)]}
    if case.texts:
        value = (
            [case.texts.get(text, text) for text in value]
            if isinstance(value, list)
            else case.texts.get(value, value)
        )
    node, shape = value, [1]
    while isinstance(node, list):
        shape.append(len(node))
        node = node[0] if node else None
    return {"name": "v", "datatype": spec.datatype, "shape": shape, "data": [value]}


def of_tensor(case: Case, output: Mapping[str, Any]) -> Any:
    """The value of an output."""
    (value,) = np.array(output["data"], object).reshape(output["shape"]).tolist()
    if of_annotation(case.of).container == "object":
        return json.loads(value)
    texts = {text: encoded for encoded, text in case.texts.items()}
    return (
        [texts.get(text, text) for text in value]
        if isinstance(value, list) and texts
        else texts.get(value, value)
        if texts
        else value
    )


@pytest.mark.parametrize("case", CASES, ids=title)
def test_values_come_back_the_same_by_json_and_tensors(case, tmp_path):
    """The stage sees a value of its type, the answer has what was sent; what is not of the type is
    refused as the caller's fault.
    """
    name = stage(case)
    seen.clear()

    async def work() -> None:
        spec = FunctionSpec.from_args("f", "/f", {"graph": [{"stage": "s", "python": name}]})
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        app = AsgiApp(FunctionHandler(function))

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/f"}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(mounted), base_url="http://test"
        ) as client:
            await calls(case, client)
        await function.close(5)

    asyncio.run(work())


async def calls(case: Case, client: httpx.AsyncClient) -> None:
    """Every value of a case, by both wires."""
    for value, wanted in case.good:
        answer = await client.post("/f", json={} if value is NOTHING else {"v": value})
        assert answer.status_code == 200, (value, answer.text)
        assert same(seen.pop(), wanted), value
        back = None if value is NOTHING else case.back.get(json.dumps(value), value)
        assert answer.json() == {"v": back, "n": 1}, value
        if value is NOTHING or (value is None and of_annotation(case.of).container != "object"):
            continue  # what is left out, and None, have no element of a tensor
        answer = await client.post("/f/infer", json={"inputs": [tensor(case, value)]})
        assert answer.status_code == 200, (value, answer.text)
        assert same(seen.pop(), wanted), value
        assert of_tensor(case, answer.json()["outputs"][0]) == back, value
    for value in case.bad:
        answer = await client.post("/f", json={"v": value})
        assert (answer.status_code, answer.json()["where"][:1]) == (400, "v"), (value, answer.text)
        if of_annotation(case.of).container == "object":
            answer = await client.post("/f/infer", json={"inputs": [tensor(case, value)]})
            assert (answer.status_code, answer.json()["where"][:1]) == (400, "v"), (
                value,
                answer.text,
            )
    assert not seen


class Picture:
    """What no request has."""


@dataclasses.dataclass
class Framed:
    """With it in a field."""

    picture: Picture


class Arrays(NamedTuple):
    """What is not read in a tuple with names."""

    vector: NDArray[np.float32]


@pytest.mark.parametrize(
    ("annotation", "taken", "given"),
    [
        (Picture, "Picture is known by its class", "Picture is known by its class"),
        (list[Picture], "Picture is known by its class", "Picture is known by its class"),
        (Picture | None, "Picture is known by its class", "Picture is known by its class"),
        (Framed, "Picture is known by its class", "Picture is known by its class"),
        (complex, "a complex number", "a complex number"),
        (typing.Callable[[int], int], "a function", "a function"),
        (type[int], "a class", "a class"),
        (Arrays, "make it a TypedDict", None),
        (NDArray[np.complex64], "complex64 is not a datatype", "complex64 is not a datatype"),
        (NDArray[np.datetime64], "datetime64 is not a datatype", "datetime64 is not a datatype"),
    ],
    ids=str,
)
def test_types_that_json_cannot_carry_are_refused_before_anything_starts(
    annotation, taken, given, tmp_path
):
    """As a field and as an answer, at the stage that has it."""

    def takes(v: Any) -> int:
        return 1

    def gives(n: int) -> Any:
        return n

    takes.__annotations__["v"] = annotation
    gives.__annotations__["return"] = annotation
    for name, call, why in (("takes", takes, taken), ("gives", gives, given)):
        setattr(HERE, f"{name}_odd", call)
        spec = FunctionSpec.from_args(
            "f", "/f", {"graph": [{"stage": "s", "python": f"{__name__}:{name}_odd"}]}
        )
        faults = assemble(
            spec,
            Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
            lambda path: pytest.fail("no model"),
        ).issues
        assert [(fault.stage, fault.key) for fault in faults] == ([(0, "python")] if why else []), (
            faults
        )
        assert all(why in fault.message for fault in faults), faults

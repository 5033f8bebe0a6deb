"""What a stage takes of another function is what its annotation says, as if both were one function:
in one process and over a network.
"""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, WakefulError
from runtime.graph.assembly import assemble
from runtime.graph.resolve import link_callees
from runtime.settings import Settings
from tests.problems import expect_values
from tests.wire_callees import load_function

HEAD = """
import datetime, decimal, enum, math, uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from wakeful import Rows, Shape, State

class Kind(enum.Enum):
    A = "a"
    B = 2

class Level(enum.IntEnum):
    LOW = 1

@dataclass
class Box:
    left: int
    kind: Kind = Kind.A
    on: datetime.date | None = None
    names: list[str] = field(default_factory=list)

class Point(NamedTuple):
    x: int
    y: float

class Model(BaseModel):
    n: int
    tags: set[str] = set()

class Item(TypedDict):
    box: Box
    note: NotRequired[str]

class Plain(TypedDict):
    n: int
    more: dict[str, float]

class Vector(TypedDict):
    of: NDArray[np.float32]

class Picture:
    pass

DAY = datetime.date(2024, 5, 6)

def show(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple, deque)):
        return f"{type(value).__name__} {[show(one) for one in value]}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(map(show, value))}"
    return f"{type(value).__name__} {value!r}"
"""

VALUES = {
    "Kind": "Kind.B",
    "Kind | None": "Kind.A",
    "Level": "Level.LOW",
    "Box": "Box(x, Kind.B, DAY, ['n'])",
    "list[Box]": "[Box(x), Box(2, on=DAY)]",
    "dict[str, Box]": "{'k': Box(x)}",
    "list[Kind]": "[Kind.A, Kind.B]",
    "Point": "Point(x, 1.5)",
    "set[str]": "{'a', 'b'}",
    "frozenset[int]": "frozenset({1})",
    "deque[int]": "deque([1, 2])",
    "Model": "Model(n=x, tags={'t'})",
    "dict[int, str]": "{x: 'a'}",
    "dict[Kind, int]": "{Kind.A: 1}",
    "Item": "{'box': Box(x)}",
    "list[Item]": "[{'box': Box(x), 'note': 'n'}]",
    "Plain": "{'n': x, 'more': {'a': 0.5}}",
    "Vector": "{'of': np.ones(2, np.float32)}",
    "tuple[int, Kind]": "(x, Kind.A)",
    "tuple[Box, ...]": "(Box(x),)",
    "Box | Kind": "Kind.A",
    "int | str": "'text'",
    "bytes": "b'\\xff'",
    "list[bytes]": "[b'\\xff', b'a']",
    "dict[str, bytes]": "{'k': b'\\xff'}",
    "datetime.datetime": "datetime.datetime(2024, 5, 6, 7, 8, 9, 10, datetime.timezone.utc)",
    "list[datetime.date]": "[DAY]",
    "dict[str, datetime.timedelta]": "{'k': datetime.timedelta(days=-1, microseconds=3)}",
    "uuid.UUID": "uuid.UUID(int=x)",
    "decimal.Decimal": "decimal.Decimal('1.10')",
    "dict[str, float]": "{'a': math.inf, 'b': 1.0}",
    "dict[str, list[int]]": "{'a': [x]}",
    "Mapping[str, int]": "{'a': x}",
    "list[dict[str, Any]]": "[{'a': [1, None]}]",
    "list[NDArray[np.int8]]": "[np.arange(2, dtype=np.int8)]",
    "int": "x",
    "np.float32": "np.float32(0.1)",
    "list[list[float]]": "[[1.5], []]",
    "Literal['a', 'b']": "'a'",
    "Annotated[NDArray[np.float32], Shape(2)]": "np.ones(2, np.float32)",
}
"""A value of each annotation, as code."""


def module_of(code: str) -> types.ModuleType:
    """The stages of a test, in a module that can be imported."""
    module = types.ModuleType(f"called_{abs(hash(code))}")
    sys.modules[module.__name__] = module
    exec(HEAD + code, module.__dict__)
    return module


def specs(root: Path, *graphs: list[dict[str, Any]], **args: Any) -> list[FunctionSpec]:
    """``f0``, ``f1`` …, linked."""
    declared = [
        FunctionSpec.from_args(f"f{index}", f"/v2/models/f{index}", {"graph": graph, **args})
        for index, graph in enumerate(graphs)
    ]
    linked, faults = link_callees(declared, settings(root))
    assert faults == []
    return list(linked)


def settings(root: Path) -> Settings:
    return Settings.read({"WAKEFUL_ROOT": str(root)})


def ask(root: Path, rows: list[dict[str, Any]], graphs: Any, *, over_wire: bool = False) -> Any:
    """What the last of the functions answers to each row, or its error."""

    async def main() -> Any:
        function = await load_function(
            specs(root, *graphs)[-1], settings(root), over_wire=over_wire
        )
        try:
            return (await function.call_rows(rows))[0]
        finally:
            await function.close(5)

    return asyncio.run(main())


FORMS = ("alone", "one of several", "each", "rows", "coroutine")

CASES = [
    pytest.param(annotation, form, marks=() if (index + at) % 5 == 0 else pytest.mark.full)
    for index, annotation in enumerate(VALUES)
    for at, form in enumerate(FORMS)
    if annotation not in ("Item", "Plain", "Vector") or form in ("one of several", "each")
]
"""Each annotation in one form, in all of them in ``full``. A stage that returns a TypedDict gives
its keys.
"""


@pytest.mark.parametrize(("annotation", "form"), CASES)
def test_a_value_of_a_function_is_what_the_stage_that_takes_it_says(tmp_path, annotation, form):
    """As if both stages were of one function."""
    given = VALUES[annotation]
    several = form == "one of several"
    lists = form == "each"
    returns = f"list[{annotation}]" if lists else annotation
    result = "{'v': value, 'w': 1}" if several else "[value, value]" if lists else "value"
    module = module_of(
        f"class Given(TypedDict):\n    v: {annotation}\n    w: int\n"
        f"def give(x: int) -> {'Given' if several else returns}:\n"
        f"    value = {given}\n"
        f"    return {result}\n"
        f"def take(v: {annotation}) -> str:\n    return show(v)\n"
        f"def take_rows(v: Rows[{annotation}]) -> Rows[str]:\n    return [show(one) for one in v]\n"
        f"async def take_soon(v: {annotation}) -> str:\n    return show(v)\n"
    ).__name__
    outputs = {} if several else {"outputs": {"v": "v"}}
    name = {"rows": "take_rows", "coroutine": "take_soon"}.get(form, "take")
    take = {"stage": "t", "python": f"{module}:{name}", **({"each": "v"} if lists else {})}
    give = [{"stage": "v", "python": f"{module}:give"}]
    rows = [{"x": 1}, {"x": 2}]
    fused = ask(tmp_path, rows, [[*give, take]])
    assert not any(isinstance(row, WakefulError) for row in fused)
    called = [give, [{"stage": "c", "function": "f0", **outputs}, take]]
    assert ask(tmp_path, rows, called) == fused
    assert ask(tmp_path, rows, called, over_wire=True) == fused


@pytest.mark.parametrize("over_wire", [False, True])
@pytest.mark.parametrize(
    ("given", "value", "taken", "named"),
    [
        ("Box", "Box(x)", "Kind", ("v",)),
        ("dict[str, Any]", "{'a': 'b'}", "dict[str, int]", ("v.a", "integer")),
        ("int | str", "'a'", "int", ("v", "integer")),
        ("list[Plain]", "[{'n': 1, 'more': {}}]", "list[Item]", ("v[0].box", "missing")),
        ("Any", "[1, 'a']", "list[int]", ("v[1]", "integer")),
        ("Any", "[0.5]", "Annotated[NDArray[np.float32], Shape(2)]", ("v", "[1]", "[2]")),
    ],
)
def test_a_value_of_another_type_fails_its_row(tmp_path, given, value, taken, named, over_wire):
    """As a fault of the function, with its place, where `check` cannot know it."""
    module = module_of(
        f"def give(x: int) -> {given}:\n    return {value}\n"
        f"def take(v: {taken}) -> str:\n    return show(v)\n"
    ).__name__
    graphs = [
        [{"stage": "v", "python": f"{module}:give"}],
        [
            {"stage": "c", "function": "f0", "outputs": {"v": "v"}},
            {"stage": "t", "python": f"{module}:take"},
        ],
    ]
    (error,) = ask(tmp_path, [{"x": 1}], graphs, over_wire=over_wire)
    assert isinstance(error, FunctionError)
    expect_values(error, "'t'", *named)


@pytest.mark.parametrize("annotation", ["Picture", "complex", "list[Picture]"])
def test_check_refuses_what_no_function_can_give(tmp_path, annotation):
    """It is known before anything runs: only JSON comes."""
    module = module_of(
        f"def give(x: int) -> Any:\n    return x\ndef take(v: {annotation}) -> str:\n    return ''\n"
    ).__name__
    spec = specs(
        tmp_path,
        [{"stage": "v", "python": f"{module}:give"}],
        [
            {"stage": "c", "function": "f0", "outputs": {"v": "v"}},
            {"stage": "t", "python": f"{module}:take"},
        ],
    )[-1]
    (issue,) = assemble(spec, settings(tmp_path), None).issues  # type: ignore[arg-type]  # no model
    assert (issue.stage, issue.key) == (1, "python")
    expect_values(issue.message, "'t'", "'v'", "JSON")


@pytest.mark.parametrize("over_wire", [False, True])
def test_a_field_that_a_function_takes_too_is_what_the_stage_says(tmp_path, over_wire):
    """The request's value is read as the annotation; the function gets its JSON."""
    module = module_of(
        "def width(b: Box) -> int:\n    return b.left\n"
        "def both(width: int, b: Box) -> str:\n    return f'{width} {b.left} {b.kind}'\n"
    ).__name__
    graphs = [
        [{"stage": "width", "python": f"{module}:width"}],
        [
            {"stage": "width", "function": "f0"},
            {"stage": "t", "python": f"{module}:both", "inputs": {"b": "b"}},
        ],
    ]
    rows = [{"b": {"left": 3}}, {"b": {"left": "x"}}]
    good, bad = ask(tmp_path, rows, graphs, over_wire=over_wire)
    assert good == {"t": "3 3 Kind.A"}
    assert (bad.code, bad.where) == ("wrong_datatype", "[1].b.left")


def test_elements_of_a_field_that_a_function_takes_too_are_what_the_stage_says(tmp_path):
    """The field is the list of them, for later stages as well."""
    module = module_of(
        "def count(bs: list[Box]) -> int:\n    return len(bs)\n"
        "def one(bs: Box) -> str:\n    return str(bs.kind)\n"
        "def all(bs: list[Box], one: list[str]) -> str:\n    return f'{bs[0].left} {one}'\n"
    ).__name__
    graphs = [
        [{"stage": "n", "python": f"{module}:count"}],
        [
            {"stage": "n", "function": "f0"},
            {"stage": "one", "python": f"{module}:one", "each": "bs"},
            {"stage": "t", "python": f"{module}:all", "inputs": {"bs": "bs"}},
        ],
    ]
    (found,) = ask(tmp_path, [{"bs": [{"left": 3}, {"left": 4, "kind": 2}]}], graphs)
    assert found == {"t": "3 ['Kind.A', 'Kind.B']"}


@pytest.mark.parametrize("over_wire", [False, True])
def test_values_of_branches_are_read_whoever_gave_them(tmp_path, over_wire):
    """A function on the one, a stage of this function on the other; and None where neither did."""
    module = module_of(
        "def give(x: int) -> Kind:\n    return Kind.A\n"
        "class F(TypedDict):\n    flag: bool\n    x: int\n"
        "def flag(x: int) -> F:\n    return {'flag': x > 0, 'x': x}\n"
        "def here(x: int) -> Any:\n    return Kind.B\n"
        "def take(v: Kind, w: Kind | None) -> str:\n    return f'{v} {w}'\n"
    ).__name__
    graphs = [
        [{"stage": "v", "python": f"{module}:give"}],
        [
            {"stage": "flag", "python": f"{module}:flag"},
            {"stage": "v", "function": "f0", "when": "flag", "outputs": {"v": "v"}},
            {"stage": "h", "python": f"{module}:here", "when": "not flag", "outputs": {"h": "v"}},
            {"stage": "w", "function": "f0", "when": "flag", "outputs": {"v": "w"}},
            {"stage": "t", "python": f"{module}:take"},
        ],
    ]
    found = ask(tmp_path, [{"x": 1}, {"x": -1}], graphs, over_wire=over_wire)
    assert found == [{"t": "Kind.A Kind.A"}, {"t": "Kind.B None"}]


def test_numbers_of_numpy_go_as_those_of_python(tmp_path):
    """Also within a mapping, to a function and from it."""
    module = module_of(
        "def give(d: dict[str, float]) -> dict[str, Any]:\n    return {'a': [np.float32(d['a'])]}\n"
        "def start(x: int) -> dict[str, float]:\n    return {'a': np.float32(x)}\n"
        "def take(v: dict[str, list[float]]) -> float:\n    return v['a'][0]\n"
    ).__name__
    graphs = [
        [{"stage": "v", "python": f"{module}:give"}],
        [
            {"stage": "d", "python": f"{module}:start"},
            {"stage": "c", "function": "f0", "outputs": {"v": "v"}},
            {"stage": "t", "python": f"{module}:take"},
        ],
    ]
    for over_wire in (False, True):
        assert ask(tmp_path, [{"x": 2}], graphs, over_wire=over_wire) == [{"t": 2.0}]

"""What is refused before anything starts, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.declaration.config_file import read
from runtime.errors import Problem
from runtime.graph.resolve import MAX_CALLED, examine, resolve
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import places

HERE = __name__
APPLICATION = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
"""


class Wrong(TypedDict):
    """Another datatype than the model takes."""

    x: NDArray[np.int64]


class Placed(TypedDict):
    """The name of an element's place."""

    index: int


def wrong(text: str) -> Wrong: ...
def other(text: str) -> NDArray[np.float32]: ...
def unlike(y: NDArray[np.int64]) -> int: ...
def misspelt(yy: NDArray[np.float32]) -> int: ...
def bare(x) -> int: ...
def many(names: list[str]) -> str: ...
def greet(name: str, times: int = 1) -> str: ...


async def soon(n: int) -> int: ...
def counted(n: int) -> list[int]: ...
def placed(counted: int) -> Placed: ...
def plain(counted: int) -> int: ...
def summed(plain: list[int]) -> int: ...


class Unread:
    """Its annotations cannot be evaluated when it runs."""

    def __init__(self, table: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def __call__(self, text: str) -> str:
        """The text."""
        return text


class Opens:
    """A stage with a file."""

    def __init__(self, table: Path, size: int = 1) -> None: ...

    def __call__(self, text: str) -> str:
        """The text."""
        return text


def problems(root: Path, args: str) -> tuple[Problem, ...]:
    """What `wakeful check` prints for a function of these args."""
    onnx_models.double(root / "m.onnx")
    (root / "text.onnx").write_text("no model")
    file = root / "serve_config.yaml"
    file.write_text(APPLICATION + "".join(f"      {line}\n" for line in args.splitlines()))
    return examine(read(file), Settings.read({"WAKEFUL_ROOT": str(root)})).problems


def graph(*stages: str) -> str:
    """A graph, a stage a line; the first is on line 7 of the file."""
    return "graph:\n" + "\n".join(f"  - {{{stage}}}" for stage in stages)


MODEL = "stage: model, onnx: m.onnx"
COUNTED = f'stage: counted, python: "{HERE}:counted"'
ELEMENTS = "each: counted, stream: true"
MANY = f'stage: t, python: "{HERE}:many"'


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ("onnx: m.onnx", None),
        ("onnx: missing.onnx", "6: applications[0].args.onnx"),
        (
            f"onnx: m.onnx\nsha256: {'a' * 64}",
            "6: applications[0].args.onnx",
        ),
        ("onnx: text.onnx", "6: applications[0].args.onnx"),
        (
            graph('stage: s, python: "tests.nowhere:f"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:wrnog"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:HERE"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:bare"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:Opens"'),
            "7: applications[0].args.graph[0].with",
        ),
        (
            graph(f'stage: s, python: "{HERE}:Opens", with: {{tabel: a}}'),
            "7: applications[0].args.graph[0].with",
        ),
        (
            graph(f'stage: s, python: "{HERE}:Opens", with: {{table: a}}'),
            "7: applications[0].args.graph[0].with",
        ),
        (
            graph(f'stage: s, python: "{HERE}:Unread", with: {{table: a}}'),
            "7: applications[0].args.graph[0].with",
        ),
        (
            graph('stage: s, python: "tests.runtime.graph.tset_resolve:wrong"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(
                'stage: s, python: "tests.broken_stages:f"',
                'stage: t, python: "tests.broken_stages:g"',
            ),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph('stage: s, python: "tests.basic_stages.py:greet"'),
            "7: applications[0].args.graph[0].python",
        ),
        (
            graph(MODEL, f'stage: s, python: "{HERE}:unlike"'),
            "8: applications[0].args.graph[1].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:greet", each: names, inputs: {{name: names}}', MANY),
            "7: applications[0].args.graph[0].each",
        ),
        (
            graph(MODEL, f'stage: s, python: "{HERE}:misspelt"'),
            "8: applications[0].args.graph[1].python",
        ),
        (
            graph(f'stage: s, python: "{HERE}:wrong"', MODEL),
            "8: applications[0].args.graph[1].onnx",
        ),
        (
            graph(f'stage: s, python: "{HERE}:other"', MODEL),
            "8: applications[0].args.graph[1].onnx",
        ),
        (
            graph(f"{MODEL}, pad: {{x: 0}}"),
            "7: applications[0].args.graph[0].pad.x",
        ),
        (
            graph(f"{MODEL}, pad: {{y: 0}}"),
            "7: applications[0].args.graph[0].pad.y",
        ),
        (
            graph(f'stage: s, python: "{HERE}:greet"') + "\nexample: {name: x, tmies: 2}",
            "8: applications[0].args.example.tmies",
        ),
        (
            graph(f'stage: s, python: "{HERE}:greet"') + "\nexample:\n  name: x\n  times: two",
            "10: applications[0].args.example.times",
        ),
        (
            graph(f'stage: s, python: "{HERE}:greet"') + "\nexample: {nmae: x}",
            "8: applications[0].args.example",
        ),
        (graph(f'stage: s, python: "{HERE}:greet"') + "\nexample: {name: x}", None),
        (
            graph(f'stage: s, python: "{HERE}:greet"') + "\ncapture: {omit: [name, nmae]}",
            "8: applications[0].args.capture.omit[1]",
        ),
        (graph(f'stage: s, python: "{HERE}:greet"') + "\ncapture: {omit: [name]}", None),
        (
            graph(f"{MODEL}, inputs: {{z: x}}"),
            "7: applications[0].args.graph[0].inputs.z",
        ),
        (graph(f'stage: s, python: "{HERE}:greet", threads: 4'), None),
        (
            graph(f'stage: s, python: "{HERE}:soon", threads: 4'),
            "7: applications[0].args.graph[0].threads",
        ),
        (graph(COUNTED, f'stage: s, python: "{HERE}:plain", {ELEMENTS}'), None),
        (
            graph(
                COUNTED,
                f'stage: plain, python: "{HERE}:plain", {ELEMENTS}',
                f'stage: t, python: "{HERE}:summed"',
            ),
            "8: applications[0].args.graph[1].stream",
        ),
        (graph(COUNTED, f'stage: s, python: "{HERE}:placed", {ELEMENTS}'), None),
        (
            graph(COUNTED, f'stage: s, python: "{HERE}:placed", {ELEMENTS}, ordered: false'),
            "8: applications[0].args.graph[1].ordered",
        ),
        (
            graph(COUNTED, f'stage: s, python: "{HERE}:plain", {ELEMENTS}') + "\ntask: embedding",
            "9: applications[0].args.task",
        ),
    ],
)
def test_a_wrong_function_is_refused(tmp_path, args, where):
    """The line, the key, and what is wrong there; a right one is not refused."""
    found = problems(tmp_path, args)
    assert places(found) == ([] if where is None else [where]), found


def number(n: int) -> Literal["few", "many"]: ...
def some(number: str, share: float) -> float: ...
def few(n: int) -> int: ...
def many_more(n: int) -> int: ...
def end(how: int) -> int: ...
def listed(n: int) -> list[float]: ...


def test_what_check_passes_can_be_split(tmp_path):
    """A stage that is split off takes request fields as before, and gives words that branches
    cover.
    """
    args = graph(
        f'stage: number, python: "{HERE}:number", deployment: {{}}',
        f'stage: some, python: "{HERE}:some", deployment: {{}}',
        f'stage: few, python: "{HERE}:few", when: {{number: few}}, outputs: {{few: how}}',
        f'stage: more, python: "{HERE}:many_more", when: {{number: many}}, outputs: {{more: how}}',
        f'stage: end, python: "{HERE}:end"',
    )
    assert problems(tmp_path, args) == ()
    file, settings = read(tmp_path / "serve_config.yaml"), Settings.read({})
    assert list(resolve(file, settings, split=True).parents) == ["f.number", "f.some"]


def test_what_cannot_be_split_is_found_by_check(tmp_path):
    """In one process a list feeds the model; to another function it goes as it is."""
    args = graph(
        f'stage: x, python: "{HERE}:listed"',
        f"{MODEL}, deployment: {{}}",
    )
    assert places(problems(tmp_path, args)) == ["8: applications[0].args.graph[1].function"]


def test_a_function_counts_once_however_many_call_it(tmp_path):
    """Pairs of functions, of which each calls both of the pair below: the ways from the top to the
    bottom are two to the power of the levels.
    """
    levels = MAX_CALLED // 2 - 1
    pairs = [
        f"  - {{name: {name}{level}, args: {{graph: ["
        + "".join(
            f"{{stage: {called}, function: {called}{level - 1}, outputs: {{few: {called}}}}}, "
            for called in "ab"
        )
        + f'{{stage: few, python: "{HERE}:few"}}]}}}}'
        for level in range(1, levels + 1)
        for name in "ab"
    ]
    leaves = [
        f'  - {{name: {name}0, args: {{graph: [{{stage: few, python: "{HERE}:few"}}]}}}}'
        for name in "ab"
    ]
    file = tmp_path / "serve_config.yaml"
    file.write_text("\n".join(["applications:", *leaves, *pairs]))
    found = examine(read(file), Settings.read({}))
    assert found.problems == ()
    assert len(found.functions[-1].all_called) == 2 * levels


@pytest.mark.full
def test_a_thousand_functions_below_each_other_are_looked_at(tmp_path):
    """In whatever order they stand; and in a circle."""
    file = tmp_path / "serve_config.yaml"
    for last in (f'python: "{HERE}:few"', "function: f1199"):
        chain = [
            f"  - {{name: f{index}, args: {{graph: [{{stage: s, function: f{index - 1}}}]}}}}"
            for index in range(1199, 0, -1)
        ]
        bottom = f"  - {{name: f0, args: {{graph: [{{stage: few, {last}}}]}}}}"
        file.write_text("\n".join(["applications:", *chain, bottom]))
        assert examine(read(file), Settings.read({})).problems


@pytest.mark.parametrize("count", [MAX_CALLED, MAX_CALLED + 1])
def test_functions_that_call_each_other_are_bounded(tmp_path, count):
    """Each waits for all below it, which are loaded to try it."""
    file = tmp_path / "serve_config.yaml"
    entries = [
        f'  - {{name: f0, args: {{graph: [{{stage: s, python: "{HERE}:few"}}]}}}}',
        *(
            f"  - {{name: f{index}, args: {{graph: [{{stage: s, function: f{index - 1}}}]}}}}"
            for index in range(1, count + 1)
        ),
    ]
    file.write_text("\n".join(["applications:", *entries]))
    found = examine(read(file), Settings.read({})).problems
    wrong = [f"{count + 2}: applications[{count}].args.graph[0].function"]
    assert places(found) == (wrong if count > MAX_CALLED else [])

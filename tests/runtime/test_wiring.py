"""Stages wired by the names of their values."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import Shape
from runtime.branch import Condition
from runtime.graph import Node, Port
from runtime.tensors import TensorSpec
from runtime.values import of_annotation, of_tensor
from runtime.wiring import wire


def python(name: str, takes: dict, gives: dict, **more) -> Node:
    """A Python stage of plain annotations."""
    ports = tuple(Port(param, of_annotation(kind), kind) for param, kind in takes.items())
    return Node(name, "python", ports, {value: of_annotation(kind) for value, kind in gives.items()}, **more)


def model(takes: dict, gives: dict, **more) -> Node:
    """A model of FP32 tensors of these row shapes."""

    def types(of):
        return {name: of_tensor(TensorSpec(name, "FP32", (-1, *shape)), rows=True) for name, shape in of.items()}

    return Node("model", "onnx", tuple(Port(name, kind, kind.annotation) for name, kind in types(takes).items()), types(gives), **more)


ARRAY = NDArray[np.float32]


def test_names_make_the_edges():
    """Values flow by name, what nobody gives is a field of the request, the last stage's values are the answer."""
    graph = wire(
        [
            python("pre", {"text": str}, {"x": ARRAY}),
            model({"x": (-1,)}, {"y": (3,)}),
            python("post", {"y": ARRAY, "top": int}, {"best": str}),
        ]
    )
    assert not graph.faults
    assert list(graph.fields) == ["text", "top"]
    assert list(graph.answer) == ["best"]
    assert graph.sources == ({"text": "text"}, {"x": "x"}, {"y": "y", "top": "top"})


def test_a_mapping_renames_an_edge():
    """inputs maps a port to a value, or says that it is a field of the request."""
    graph = wire([python("pre", {"text": str}, {"ids": ARRAY}), model({"x": (-1,), "z": (2,)}, {"y": (3,)}, inputs={"x": "ids", "z": "z"})])
    assert not graph.faults
    assert list(graph.fields) == ["text", "z"]


def test_the_latest_value_of_a_name_counts():
    """A stage may give a value of a name that it takes; later stages get the new one."""
    graph = wire([python("pre", {"x": str}, {"x": ARRAY}), model({"x": (-1,)}, {"y": (3,)})])
    assert not graph.faults


@pytest.mark.parametrize(
    ("nodes", "stage", "key", "message"),
    [
        ([python("pre", {"text": str}, {"ids": ARRAY}), model({"x": (-1,)}, {"y": ()})], 1, "onnx", "'x' is filled by no earlier stage"),
        ([python("pre", {"text": str}, {"input_id": ARRAY}), model({"input_ids": (-1,)}, {"y": ()})], 1, "onnx", "did you mean 'input_id'"),
        ([python("a", {"t": str}, {"tokens": str}), python("b", {"token": str}, {"c": str})], 1, "python", "did you mean 'tokens'"),
        (
            [python("a", {"t": str}, {"u": str}), python("b", {"u": int}, {"c": str})],
            1,
            "python",
            "takes the value 'u', but it is scalar BYTES",
        ),
        ([python("a", {"t": str}, {"u": str}), python("b", {"t": int}, {"c": str})], 1, "python", "takes the request field 't'"),
        ([python("a", {"t": str}, {"u": str}, inputs={"q": "t"})], 0, "inputs.q", "takes no 'q'"),
        ([model({"x": (3,)}, {"y": ()}, pad={"w": 1})], 0, "pad.w", "takes no 'w'"),
        ([python("pre", {"t": str}, {"x": NDArray[np.int64]}), model({"x": (-1,)}, {"y": ()})], 1, "onnx", "array INT64"),
    ],
)
def test_wrong_edges_are_named(nodes, stage, key, message):
    """Each fault says which stage, which key, and why."""
    (fault,) = wire(nodes).faults
    assert (fault.stage, fault.key) == (stage, key)
    assert message in fault.message


CROP = Annotated[ARRAY, Shape(3)]


def test_each_element_is_a_row_and_what_it_gives_a_list():
    """Within, names are of one element; outside they are lists of them; the answer may be such a list."""
    graph = wire(
        [
            python("cut", {"page": bytes}, {"crops": list[CROP], "boxes": list[int]}),
            model({"crops": (3,)}, {"ids": (-1,)}, each="crops"),
            python("read", {"ids": ARRAY, "page": bytes}, {"text": str}, each="crops"),
            python("answer", {"text": list[str], "boxes": list[int]}, {"lines": list[str]}),
        ]
    )
    assert not graph.faults
    assert list(graph.fields) == ["page"]
    only = wire([python("cut", {"page": bytes}, {"crops": list[str]}), python("read", {"crops": str}, {"text": str}, each="crops")])
    assert not only.faults
    assert str(only.answer["text"]) == "list BYTES [-1]"


def test_a_list_of_requests_fields_may_be_run_over():
    """An earlier stage takes the field, so its type is known."""
    graph = wire([python("look", {"texts": list[str]}, {"n": int}), python("one", {"texts": str, "n": int}, {"t": str}, each="texts")])
    assert not graph.faults


@pytest.mark.parametrize(
    ("stages", "key", "message"),
    [
        (
            [python("a", {"x": str}, {"y": str}), python("b", {"y": str}, {"z": str}, each="yy")],
            "each",
            "'yy' is no value of an earlier stage, did you mean 'y'?",
        ),
        (
            [python("a", {"x": str}, {"y": int}), python("b", {"y": int}, {"z": str}, each="y")],
            "each",
            "stage 'b' runs over 'y', but it is scalar INT64 [], a list or an array is wanted.",
        ),
        (
            [python("a", {"x": str}, {"y": list[int]}), python("b", {"y": str}, {"z": str}, each="y")],
            "python",
            "parameter 'y' of stage 'b' takes the value 'y', but it is scalar INT64 [], scalar BYTES [] is wanted.",
        ),
        (
            [
                python("a", {"x": str}, {"y": list[int]}),
                python("b", {"y": int}, {"z": int}, each="y"),
                python("c", {"z": int}, {"w": int}),
            ],
            "python",
            "parameter 'z' of stage 'c' takes the value 'z', but it is list INT64 [-1], scalar INT64 [] is wanted.",
        ),
        (
            [python("a", {"x": str}, {"y": list[ARRAY]}), python("b", {"y": list[dict]}, {"z": int})],
            "python",
            "is wanted.",
        ),
    ],
)
def test_an_edge_of_a_fan_that_does_not_fit(stages, key, message):
    """Both types are said."""
    (fault,) = wire(stages).faults
    assert fault.key == key
    assert message in fault.message


def test_branches_that_leave_no_row_out_fit_together():
    """Whatever the condition, the value is there."""
    for one, other in ((Condition("flag"), Condition("flag", negated=True)), (Condition("kind", ("a",)), Condition("kind", ("b",)))):
        graph = wire(
            [
                python("look", {"x": str}, {"flag": bool, "kind": Literal["a", "b"]}),
                python("one", {"x": str}, {"y": int}, when=one),
                python("other", {"x": str}, {"y": int}, when=other),
                python("end", {"y": int}, {"z": int}),
            ]
        )
        assert not graph.faults
        assert graph.instead == ({}, {}, {}, {})


def test_what_a_branch_leaves_out_may_be_done_without():
    """A default, or None where that is admitted; an earlier stage that gave it for every row; the same condition again."""
    stages = [
        python("look", {"x": str}, {"flag": bool}),
        python("one", {"x": str}, {"y": int}, when=Condition("flag")),
        python("end", {"y": int | None}, {"z": int}),
    ]
    graph = wire(stages)
    assert not graph.faults
    assert graph.instead == ({}, {}, {"y": None})
    again = [*stages[:2], python("two", {"y": int}, {"w": int}, when=Condition("flag")), python("end", {"w": int | None}, {"z": int})]
    assert not wire(again).faults
    before = [python("look", {"x": str}, {"flag": bool, "y": int}), stages[1], python("end", {"y": int}, {"z": int})]
    assert not wire(before).faults


@pytest.mark.parametrize(
    ("stages", "key", "message"),
    [
        ([python("end", {"y": int}, {"z": int})], "python", "'y', which is there only where flag: annotate it '| None', or give it on the"),
        ([model({"y": (3,)}, {"z": (3,)})], "onnx", "which is there only where flag: give it on the other branch too"),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("flag", negated=True))],
            "when",
            "'z' is missing where not flag does not hold",
        ),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("flak"))],
            "when",
            "'flak' is neither a value of an earlier stage nor a field",
        ),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("x"))],
            "when",
            "is for rows where x, but it is scalar BYTES [], a bool is wanted",
        ),
        (
            [python("o", {"x": str}, {"y": str}, when=Condition("flag", negated=True)), python("e", {"x": str}, {"z": int})],
            "when",
            "it gives 'y' as scalar BYTES [] where not flag, and other rows have it from an earlier stage as",
        ),
    ],
)
def test_a_branch_that_leaves_somebody_without(stages, key, message):
    """Refused, with the condition under which there is nothing."""
    kind = ARRAY if stages[0].kind == "onnx" else int
    head = [python("look", {"x": str}, {"flag": bool}), python("one", {"x": str}, {"y": kind}, when=Condition("flag"))]
    faults = wire([*head, *stages]).faults
    assert faults
    assert faults[0].key == key
    assert message in faults[0].message


def test_two_models_with_the_same_outputs_are_told_apart():
    """outputs renames what a stage gives; what it does not give, and one name for two, are refused."""
    graph = wire(
        [
            model({"x": (3,)}, {"y": (3,)}, outputs={"y": "one"}),
            model({"x": (3,)}, {"y": (3,)}, inputs={"x": "x"}, outputs={"y": "two"}),
            python("mean", {"one": ARRAY, "two": ARRAY}, {"both": ARRAY}),
        ]
    )
    assert not graph.faults
    assert list(graph.fields) == ["x"]
    (unknown,) = wire([python("a", {"x": str}, {"y": int}, outputs={"yy": "z"})]).faults
    assert (unknown.key, unknown.message) == ("outputs.yy", "stage 'a' gives no 'yy', did you mean 'y'?")
    twice = wire([python("a", {"x": str}, {"y": int, "z": int}, outputs={"y": "z"})]).faults
    assert twice[0].message == "stage 'a' would give two values of the name 'z'."

"""Stages wired by the names of their values."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.graph.graph import OMITTED, Node, Port
from runtime.graph.interfaces import type_from_json, type_to_json
from runtime.graph.wiring.wiring import wire_graph
from runtime.types.conditions import Condition
from runtime.types.tensors import TensorSpec
from runtime.types.value_types import ANY, ANY_MAPPING, of_annotation, of_tensor
from tests.problems import expect_values
from wakeful import Shape


def python(name: str, takes: dict, gives: dict, **more) -> Node:
    """A Python stage of plain annotations."""
    ports = tuple(Port(param, of_annotation(kind), kind) for param, kind in takes.items())
    return Node(
        name, "python", ports, {value: of_annotation(kind) for value, kind in gives.items()}, **more
    )


def model(takes: dict, gives: dict, datatype: str = "FP32", **more) -> Node:
    """A model of tensors of one datatype and of these row shapes."""

    def types(of):
        return {
            name: of_tensor(TensorSpec(name, datatype, (-1, *shape)), rows=True)
            for name, shape in of.items()
        }

    return Node(
        "model",
        "onnx",
        tuple(Port(name, kind, kind.annotation) for name, kind in types(takes).items()),
        types(gives),
        **more,
    )


ARRAY = NDArray[np.float32]


def test_values_flow_by_name():
    """What no stage gives is a field of the request; the last stage's values are the answer."""
    graph = wire_graph(
        [
            python("pre", {"text": str}, {"x": ARRAY}),
            model({"x": (-1,)}, {"y": (3,)}),
            python("post", {"y": ARRAY, "top": int}, {"best": str}),
        ]
    )
    assert not graph.issues
    assert list(graph.fields) == ["text", "top"]
    assert list(graph.answer) == ["best"]
    assert graph.sources == ({"text": "text"}, {"x": "x"}, {"y": "y", "top": "top"})


def test_a_mapping_renames_an_edge():
    """inputs maps a port to a value, or says that it is a field of the request."""
    graph = wire_graph(
        [
            python("pre", {"text": str}, {"ids": ARRAY}),
            model({"x": (-1,), "z": (2,)}, {"y": (3,)}, inputs={"x": "ids", "z": "z"}),
        ]
    )
    assert not graph.issues
    assert list(graph.fields) == ["text", "z"]


def test_the_latest_value_of_a_name_counts():
    """A stage may give a value of a name that it takes; later stages get the new one."""
    graph = wire_graph([python("pre", {"x": str}, {"x": ARRAY}), model({"x": (-1,)}, {"y": (3,)})])
    assert not graph.issues


@pytest.mark.parametrize(
    ("stages", "stage", "key"),
    [
        (
            [python("pre", {"text": str}, {"ids": ARRAY}), model({"x": (-1,)}, {"y": ()})],
            1,
            "onnx",
        ),
        (
            [
                python("pre", {"text": str}, {"input_id": ARRAY}),
                model({"input_ids": (-1,)}, {"y": ()}),
            ],
            1,
            "onnx",
        ),
        (
            [python("a", {"t": str}, {"tokens": str}), python("b", {"token": str}, {"c": str})],
            1,
            "python",
        ),
        (
            [python("a", {"t": str}, {"u": str}), python("b", {"u": int}, {"c": str})],
            1,
            "python",
        ),
        (
            [python("a", {"t": str}, {"u": str}), python("b", {"t": int}, {"c": str})],
            1,
            "python",
        ),
        ([python("a", {"t": str}, {"u": str}, inputs={"q": "t"})], 0, "inputs.q"),
        ([model({"x": (3,)}, {"y": ()}, pad={"w": 1})], 0, "pad.w"),
        (
            [model({"x": (3,)}, {"y": ()}, pad={"x": 0})],
            0,
            "pad.x",
        ),
        ([model({"x": (-1,)}, {"y": ()}, "BYTES", pad={"x": 0})], 0, "pad.x"),
        (
            [model({"x": (-1,)}, {"y": ()}, "UINT8", pad={"x": -1})],
            0,
            "pad.x",
        ),
        (
            [model({"x": (-1,)}, {"y": ()}, "INT64", pad={"x": 0.5})],
            0,
            "pad.x",
        ),
        (
            [model({"x": (-1,)}, {"y": ()}, pad={"x": 0}, has_rows=False)],
            0,
            "pad.x",
        ),
        (
            [python("pre", {"t": str}, {"x": NDArray[np.int64]}), model({"x": (-1,)}, {"y": ()})],
            1,
            "onnx",
        ),
    ],
)
def test_wrong_edges_are_named(stages, stage, key):
    """Each fault says which stage, which key, and why."""
    (fault,) = wire_graph(stages).issues
    assert (fault.stage, fault.key) == (stage, key)


CROP = Annotated[ARRAY, Shape(3)]


def test_each_element_is_a_row_and_what_it_gives_a_list():
    """Within, names are of one element; outside they are lists of them; the answer may be such a
    list.
    """
    graph = wire_graph(
        [
            python("cut", {"page": bytes}, {"crops": list[CROP], "boxes": list[int]}),
            model({"crops": (3,)}, {"ids": (-1,)}, each="crops"),
            python("read", {"ids": ARRAY, "page": bytes}, {"text": str}, each="crops"),
            python("answer", {"text": list[str], "boxes": list[int]}, {"lines": list[str]}),
        ]
    )
    assert not graph.issues
    assert list(graph.fields) == ["page"]
    only = wire_graph(
        [
            python("cut", {"page": bytes}, {"crops": list[str]}),
            python("read", {"crops": str}, {"text": str}, each="crops"),
        ]
    )
    assert not only.issues
    assert str(only.answer["text"]) == "list BYTES [-1]"


def test_a_list_of_requests_fields_may_be_run_over():
    """An earlier stage takes the field, so its type is known."""
    graph = wire_graph(
        [
            python("look", {"texts": list[str]}, {"n": int}),
            python("one", {"texts": str, "n": int}, {"t": str}, each="texts"),
        ]
    )
    assert not graph.issues


@pytest.mark.parametrize(
    ("stages", "key"),
    [
        (
            [python("a", {"x": str}, {"y": str}), python("b", {"y": str}, {"z": str}, each="yy")],
            "each",
        ),
        (
            [python("a", {"x": str}, {"y": int}), python("b", {"y": int}, {"z": str}, each="y")],
            "each",
        ),
        (
            [
                python("a", {"x": str}, {"y": list[int]}),
                python("b", {"y": str}, {"z": str}, each="y"),
            ],
            "python",
        ),
        (
            [
                python("a", {"x": str}, {"y": list[int]}),
                python("b", {"y": int}, {"z": int}, each="y"),
                python("c", {"z": int}, {"w": int}),
            ],
            "python",
        ),
        (
            [
                python("a", {"x": str}, {"y": list[ARRAY]}),
                python("b", {"y": list[dict]}, {"z": int}),
            ],
            "python",
        ),
        (  # what a stage with a wrong `each` gives is not judged
            [
                python("a", {"x": str}, {"y": int}, each="x"),
                python("b", {"y": int}, {"z": int}),
            ],
            "each",
        ),
    ],
)
def test_an_edge_of_a_fan_out_that_does_not_fit_is_refused(stages, key):
    """The message has both types."""
    (fault,) = wire_graph(stages).issues
    assert fault.key == key


LOOK = python(
    "look",
    {"x": str},
    {"lines": list[str], "marks": list[str], "flag": bool, "kind": Literal["a", "b"]},
)
PER = python("per", {"lines": str}, {"word": str}, each="lines")


def test_a_replaced_value_has_its_new_type():
    """A value of the row, where it was one an element; a list of the old elements, where the list
    is another.
    """
    for join in (
        python("join", {"word": list[str]}, {"word": str}),
        python("join", {"marks": str}, {"word": str}, each="marks"),
    ):
        wanted = str if join.each is None else list[str]
        tag = python("tag", {"lines": str, "word": wanted}, {"tag": str}, each="lines")
        assert not wire_graph([LOOK, PER, join, tag]).issues
    again = python("again", {"word": list[str]}, {"lines": list[str]})
    assert not wire_graph(
        [
            LOOK,
            PER,
            again,
            python("tag", {"lines": str, "word": list[str]}, {"tag": str}, each="lines"),
        ]
    ).issues
    (fault,) = wire_graph(
        [LOOK, PER, again, python("tag", {"lines": str, "word": str}, {"tag": str}, each="lines")]
    ).issues
    assert (fault.stage, fault.key) == (3, "python")
    expect_values(fault.message, "'word'", "list BYTES [-1]", "scalar BYTES []")


@pytest.mark.parametrize(
    ("stages", "key"),
    [
        (
            [python("per", {"lines": str}, {"lines": str}, each="lines")],
            "each",
        ),
        (
            [
                python("a", {"x": str}, {"w": list[str]}),
                python("b", {"lines": str}, {"w": str}, each="lines", when=Condition("flag")),
            ],
            "when",
        ),
        (
            [python("b", {"lines": str}, {"x": int}, each="lines", when=Condition("flag"))],
            "when",
        ),
        (
            [
                python("a", {"x": str}, {"y": str}, when=Condition("flag")),
                python("b", {"x": str}, {"flag": bool}),
                python("c", {"x": str}, {"y": str}, when=Condition("flag", negated=True)),
                python("d", {"y": str}, {"z": str}),
            ],
            "python",
        ),
        (
            [
                python("a", {"x": str}, {"y": str}, when=Condition("flag")),
                python("b", {"x": str}, {"flag": bool}),
                python("c", {"y": str}, {"z": str | None}, when=Condition("flag")),
                python("d", {"z": str | None}, {"w": str}),
            ],
            "python",
        ),
    ],
)
def test_a_replaced_value_that_does_not_fit_is_refused(stages, key):
    """Refused, with what to write."""
    faults = wire_graph([LOOK, *stages]).issues
    assert faults
    assert faults[0].key == key


def test_a_branch_may_replace_the_value_of_its_own_condition():
    """A later condition reads the new value; what was given before belongs to the old one."""
    turn = python("turn", {"x": str}, {"flag": bool, "y": str}, when=Condition("flag"))
    end = python("end", {"y": str | None}, {"z": str})
    assert not wire_graph([LOOK, turn, end]).issues
    (fault,) = wire_graph(
        [LOOK, turn, python("use", {"y": str}, {"z": str | None}, when=Condition("flag")), end]
    ).issues
    assert (fault.stage, fault.key) == (2, "python")
    expect_values(fault.message, "'y'", "flag", "'turn'")


@pytest.mark.parametrize("annotation", [list[str] | None, Annotated[list[str] | None, "a note"]])
def test_a_list_that_may_be_none_is_not_run_over(annotation):
    """A field that a caller may send as null; the message says what to write instead."""
    over = python("one", {"texts": str}, {"t": str}, each="texts")
    field = Node(
        "look",
        "python",
        (Port("texts", of_annotation(annotation), annotation, None),),
        {"n": of_annotation(int)},
    )
    (fault,) = [one for one in wire_graph([field, over]).issues if one.key == "each"]
    expect_values(fault.message, "stage 'one'", "'texts'", "None", "default", "[]")


@pytest.mark.parametrize(
    ("annotation", "without"),
    [
        (list[str] | None, list[str]),
        (Annotated[list[str] | None, "a note"], list[str]),
        (ARRAY | None, ARRAY),
    ],
)
def test_a_value_that_may_be_none_is_not_run_over(annotation, without):
    """As a field is not: the row would fail; also where only one of two stages may give None, or
    another function does.
    """
    over = python("one", {"texts": Any}, {"t": str}, each="texts")
    gives = python("read", {"x": str}, {"texts": annotation, "flag": bool})
    (fault,) = wire_graph([gives, over]).issues
    assert (fault.stage, fault.key) == (1, "each")
    expect_values(fault.message, "stage 'one'", "'texts'", "None", "empty list")
    again = python("again", {"x": str}, {"texts": without}, when=Condition("flag"))
    assert [fault.key for fault in wire_graph([gives, again, over]).issues] == ["each"]
    called = replace(
        gives,
        kind="function",
        gives={"texts": type_from_json(type_to_json(of_annotation(annotation)))},
    )
    assert [fault.key for fault in wire_graph([called, over]).issues] == ["each"]


def test_a_list_of_what_may_be_none_is_run_over():
    """The list is there, whatever its elements are; so is what a stage gave for each element."""
    over = python("one", {"texts": str | None}, {"t": list[str] | None}, each="texts")
    assert not wire_graph(
        [
            python("read", {"x": str}, {"texts": list[str | None]}),
            over,
            python("two", {"t": Any}, {"u": str}, each="t"),
        ]
    ).issues


CALLED = Node(
    "call",
    "function",
    (Port("w", of_annotation(list[str]), list[str], OMITTED),),
    {"n": of_annotation(int)},
)


@pytest.mark.parametrize(
    ("node", "key"),
    [
        (
            python("over", {"w": str}, {"t": str}, each="w"),
            "each",
        ),
        (
            python("use", {"w": list[str]}, {"t": str}),
            "python",
        ),
        (
            python("if", {"n": int}, {"t": str}, when=Condition("w")),
            "when",
        ),
    ],
)
def test_a_default_that_only_another_function_knows_is_used_nowhere_else(node, key):
    """The message says how to get it."""
    faults = [fault for fault in wire_graph([CALLED, node]).issues if fault.stage == 1]
    assert faults[0].key == key
    assert not wire_graph([CALLED, replace(CALLED, name="again", outputs={"n": "m"})]).issues


def test_a_field_that_is_none_by_default_is_not_run_over():
    """Whatever its annotation."""
    field = Node(
        "look",
        "python",
        (Port("texts", of_annotation(list[str]), list[str], None),),
        {"n": of_annotation(int)},
    )
    (fault,) = wire_graph([field, python("one", {"texts": str}, {"t": str}, each="texts")]).issues
    assert (fault.stage, fault.key) == (1, "each")
    expect_values(fault.message, "stage 'one'", "'texts'", "None")


def behind_a_branch(stages):
    """These stages after one that gives `y` only where `flag` holds."""
    kind = ARRAY if stages[0].kind == "onnx" else int
    return [
        python("look", {"x": str}, {"flag": bool}),
        python("one", {"x": str}, {"y": kind}, when=Condition("flag")),
        *stages,
    ]


def test_branches_that_cover_every_row_fit_together():
    """Whatever the condition, the value is there."""
    for one, other in (
        (Condition("flag"), Condition("flag", negated=True)),
        (Condition("kind", ("a",)), Condition("kind", ("b",))),
    ):
        graph = wire_graph(
            [
                python("look", {"x": str}, {"flag": bool, "kind": Literal["a", "b"]}),
                python("one", {"x": str}, {"y": int}, when=one),
                python("other", {"x": str}, {"y": int}, when=other),
                python("end", {"y": int}, {"z": int}),
            ]
        )
        assert not graph.issues
        assert graph.defaults == ({}, {}, {}, {})


@pytest.mark.parametrize(
    "first",
    [
        python("look", {"x": str}, {"kind": Literal["a", "b"] | None}),
        Node(
            "look",
            "python",
            (Port("kind", of_annotation(Literal["a", "b"]), Literal["a", "b"], None),),
            {"x": of_annotation(str)},
        ),
    ],
)
def test_branches_leave_out_a_row_whose_word_is_none(first):
    """Given or by default: no branch is for it."""
    graph = wire_graph(
        [
            first,
            python("one", {"x": str}, {"y": int}, when=Condition("kind", ("a",))),
            python("other", {"x": str}, {"y": int}, when=Condition("kind", ("b",))),
            python("end", {"y": int}, {"z": int}),
        ]
    )
    assert [(issue.stage, issue.key) for issue in graph.issues] == [(3, "python")]


def test_a_branch_does_not_make_certain_what_may_be_missing():
    """Rows that skip the branch have what the stage before gave them, which may be nothing."""
    kinds = {"flag": of_annotation(bool), "y": replace(of_annotation(int), may_lack=True)}
    graph = wire_graph(
        [
            replace(python("look", {"x": str}, {}), gives=kinds),
            python("one", {"x": str}, {"y": int}, when=Condition("flag")),
            python("end", {"y": int}, {"z": int}),
        ]
    )
    assert [(issue.stage, issue.key) for issue in graph.issues] == [(2, "python")]


def test_a_parameter_with_a_default_may_take_what_a_branch_leaves_out():
    """A default, or None where that is admitted; an earlier stage that gave it for every row; the
    same condition again.
    """
    stages = [
        python("look", {"x": str}, {"flag": bool}),
        python("one", {"x": str}, {"y": int}, when=Condition("flag")),
        python("end", {"y": int | None}, {"z": int}),
    ]
    graph = wire_graph(stages)
    assert not graph.issues
    assert graph.defaults == ({}, {}, {"y": None})
    again = [
        *stages[:2],
        python("two", {"y": int}, {"w": int}, when=Condition("flag")),
        python("end", {"w": int | None}, {"z": int}),
    ]
    assert not wire_graph(again).issues
    before = [
        python("look", {"x": str}, {"flag": bool, "y": int}),
        stages[1],
        python("end", {"y": int}, {"z": int}),
    ]
    assert not wire_graph(before).issues


@pytest.mark.parametrize(
    ("stages", "key"),
    [
        (
            [python("end", {"y": int}, {"z": int})],
            "python",
        ),
        (
            [model({"y": (3,)}, {"z": (3,)})],
            "onnx",
        ),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("flag", negated=True))],
            "when",
        ),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("flak"))],
            "when",
        ),
        (
            [python("o", {"x": str}, {"z": int}, when=Condition("x"))],
            "when",
        ),
        (
            [
                python("o", {"x": str}, {"y": str}, when=Condition("flag", negated=True)),
                python("e", {"x": str}, {"z": int}),
            ],
            "when",
        ),
    ],
)
def test_a_branch_that_leaves_a_stage_without_its_value(stages, key):
    """Refused, with the condition under which there is nothing."""
    faults = wire_graph(behind_a_branch(stages)).issues
    assert faults
    assert faults[0].key == key


def test_outputs_of_two_models_are_renamed():
    """outputs renames what a stage gives; what it does not give, and one name for two, are
    refused.
    """
    graph = wire_graph(
        [
            model({"x": (3,)}, {"y": (3,)}, outputs={"y": "one"}),
            model({"x": (3,)}, {"y": (3,)}, inputs={"x": "x"}, outputs={"y": "two"}),
            python("mean", {"one": ARRAY, "two": ARRAY}, {"both": ARRAY}),
        ]
    )
    assert not graph.issues
    assert list(graph.fields) == ["x"]
    (unknown,) = wire_graph([python("a", {"x": str}, {"y": int}, outputs={"yy": "z"})]).issues
    assert unknown.key == "outputs.yy"
    expect_values(unknown.message, "stage 'a'", "'yy'", "'y'?")
    twice = wire_graph([python("a", {"x": str}, {"y": int, "z": int}, outputs={"y": "z"})]).issues
    assert twice[0].key == "outputs.y"
    expect_values(twice[0].message, "stage 'a'", "two values", "'z'")


def test_a_state_that_may_be_left_out_is_refused():
    """Every call leaves one: the next would find none."""
    taken = python("add", {"total": int | None, "n": int}, {"total": int})
    state = replace(taken.takes[0], is_state=True)
    taken = replace(taken, takes=(state, taken.takes[1]))
    lacking = {"total": replace(of_annotation(int), may_lack=True)}
    (issue,) = wire_graph([replace(taken, gives=lacking | {"n": of_annotation(int)})]).issues
    assert (issue.stage, issue.key) == (0, "python")
    expect_values(issue.message, "'total'", "NotRequired")


@pytest.mark.parametrize(("kind", "is_refused"), [(ANY_MAPPING, True), (ANY, False)])
def test_each_does_not_run_over_a_mapping_of_another_function(kind, is_refused):
    """Nothing else is known of it; of what may be a list nothing is refused."""
    called = Node("call", "function", (), {"found": kind})
    graph = wire_graph([called, python("one", {"found": str}, {"y": str}, each="found")])
    assert [issue.key for issue in graph.issues] == ["each"] * is_refused


def test_what_came_as_json_is_read_by_the_stages_that_take_it():
    """A value of another function of which nothing is known, an element of it, and one that a
    branch may have from there; not what is known, nor what a split stage gave.
    """
    called = Node("call", "function", (), {"found": ANY, "count": of_annotation(int)})
    split = Node("split", "function", (), {"whole": ANY}, is_split_python=True)
    taker = {"found": list[str], "count": int, "whole": list[str]}
    graph = wire_graph(
        [
            called,
            split,
            python("flag", {"x": int}, {"flag": bool}),
            python("all", taker, {"a": int}),
            python("one", {"found": str}, {"b": int}, each="found"),
            Node("other", "function", (), {"c": ANY}, when=Condition("flag")),
            python("here", {"x": int}, {"c": Any}, when=Condition("flag", negated=True)),
            python("end", {"c": str, "a": int}, {"d": int}),
        ]
    )
    assert not graph.issues
    assert [sorted(names) for names in graph.called] == [
        *([[]] * 3), ["found"], ["found"], [], [], ["c"]
    ]  # fmt: skip

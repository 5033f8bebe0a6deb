"""Random ONNX models of ordinary operators, most of which mix the rows of a run somewhere.

``make(seed)`` gives the same model each time: two to seven steps on ``x [rows, 4]``,
``x [rows, length]`` or ``x [rows, 3, 4]``, of floats, small or large integers, or places in a table.
A step keeps the shape. Some mix rows on purpose (a mean over the first axis), some do so where their
numbers meet a bound (a threshold on the largest of a run), some only look as if (the product of a
shape). With lengths, some models are padded, and read their padding or mask it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY: Final = 50
WIDTH: Final = 4


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A random model, and how it is declared.

    Attributes:
        steps: names of its steps, for reports.
        vocabulary: places that its integers may name; None: they are plain numbers.
        pad: number that pads its inputs, by name; empty where it is not padded.
        example: a row that is declared; None: none is.
    """

    model: bytes
    steps: tuple[str, ...]
    vocabulary: int | None
    pad: dict[str, float] = field(default_factory=dict)
    example: dict[str, np.ndarray] | None = None


class Builder:
    """A graph that grows by steps; ``at`` is the tensor that the next one takes."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.at = "x"
        self.rank = 2
        self.opset = 17

    def constant(self, value: Any) -> str:
        """A new constant's name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def floats(self, *values: float) -> str:
        """A constant, one of these numbers."""
        return self.constant(np.float32(self.draw.choice(values)))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; the name of its first output."""
        names = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def cast(self, name: str, to: int = TensorProto.FLOAT) -> str:
        """A tensor in another type."""
        return self.add("Cast", name, to=to)


Step = Callable[[Builder, str], str]


def _reduced(operator: str, axes: list[int] | None, then: str = "Add") -> Step:
    """A reduction that joins the tensor again; axes None: over all."""

    def step(b: Builder, x: str) -> str:
        if operator == "ReduceSum":
            taken = () if axes is None else (b.constant(np.array(axes, np.int64)),)
            found = b.add(operator, x, *taken, keepdims=int(axes is not None))
        else:
            named = {} if axes is None else {"axes": axes}
            found = b.add(operator, x, keepdims=int(axes is not None), **named)
        if then == "Div":
            found = b.add("Max", b.add("Abs", found), b.floats(1.0))
        return b.add(then, x, found)

    return step


def _unary(operator: str) -> Step:
    return lambda b, x: b.add(operator, x)


def _affine(b: Builder, x: str) -> str:
    return b.add("Add", b.add("Mul", x, b.floats(0.1, 1, -1, 3)), b.floats(-5, -1, 0, 2))


def _matmul(b: Builder, x: str) -> str:
    return b.add("MatMul", x, b.constant(b.numbers.standard_normal((WIDTH, WIDTH)).astype("f4")))


def _clip(b: Builder, x: str) -> str:
    return b.add("Clip", x, b.floats(-1, -6), b.floats(0.5, 6))


def _threshold(b: Builder, x: str) -> str:
    return b.cast(b.add("Greater", x, b.floats(-1, 0, 1, 5)))


def _gate(b: Builder, x: str) -> str:
    """Adds a number if anything in the run is large."""
    over = b.add("Greater", b.add("ReduceMax", x, keepdims=0), b.floats(2, 10, 100))
    return b.add("Add", x, b.cast(over))


def _branch(b: Builder, x: str) -> str:
    """The same with `If`."""
    over = b.add("Less", b.add("ReduceMin", x, keepdims=0), b.floats(-50, -3, 0))
    branches = [
        helper.make_graph(
            [helper.make_node(operator, [x], [f"{operator}{len(b.nodes)}"])],
            operator,
            [],
            [helper.make_tensor_value_info(f"{operator}{len(b.nodes)}", TensorProto.FLOAT, None)],
        )
        for operator in ("Neg", "Identity")
    ]
    return b.add("If", over, then_branch=branches[0], else_branch=branches[1])


def _quantised(b: Builder, x: str) -> str:
    made = b.add("DynamicQuantizeLinear", x, outputs=3)
    return b.add("DequantizeLinear", made, made[:-1] + "1", made[:-1] + "2")


def _cumulated(b: Builder, x: str, axis: int = 0) -> str:
    return b.add("CumSum", x, b.constant(np.int64(axis)))


def _standardised(b: Builder, x: str) -> str:
    """(x - min) / (max - min) of the run."""
    low, high = b.add("ReduceMin", x, keepdims=0), b.add("ReduceMax", x, keepdims=0)
    spread = b.add("Max", b.add("Sub", high, low), b.floats(1e-3))
    return b.add("Div", b.add("Sub", x, low), spread)


def _moved_axis(b: Builder, x: str) -> str:
    """A softmax over rows that were moved to the last axis."""
    order = list(range(b.rank))[::-1]
    turned = b.add("Softmax", b.add("Transpose", x, perm=order), axis=-1)
    return b.add("Transpose", turned, perm=order)


def _gram(b: Builder, x: str) -> str:
    """Attention of rows among themselves."""
    flat = b.add("Flatten", x, axis=1)
    scores = b.add("MatMul", flat, b.add("Transpose", flat, perm=[1, 0]))
    mixed = b.add("MatMul", b.add("Softmax", scores, axis=-1), flat)
    return b.add("Reshape", mixed, b.add("Shape", x))


def _first_row(b: Builder, x: str) -> str:
    first = b.add("Gather", x, b.constant(np.array([0], np.int64)), axis=0)
    return b.add("Sub", x, first)


def _rolled(b: Builder, x: str) -> str:
    one, end = b.constant(np.array([1], np.int64)), b.constant(np.array([2**31], np.int64))
    zero = b.constant(np.array([0], np.int64))
    last = b.add("Slice", x, one, end, zero)
    first = b.add("Slice", x, zero, one, zero)
    return b.add("Concat", last, first, axis=0)


def _sorted(b: Builder, x: str) -> str:
    """The rows' numbers in the order of their size, column by column."""
    count = b.add("Gather", b.add("Shape", x), b.constant(np.array([0], np.int64)), axis=0)
    return b.add("TopK", x, count, outputs=2, axis=0)


def _best_row(b: Builder, x: str) -> str:
    return b.add("Add", x, b.cast(b.add("ArgMax", x, axis=0, keepdims=1)))


def _counted(b: Builder, x: str) -> str:
    """How many numbers of the run are not 0."""
    at = b.add("NonZero", b.add("Relu", x))
    count = b.add("Gather", b.add("Shape", at), b.constant(np.int64(1)), axis=0)
    return b.add("Sub", x, b.cast(count))


def _normalised(b: Builder, x: str) -> str:
    return b.add("MeanVarianceNormalization", x, axes=list(range(b.rank - 1)))


def _trained(b: Builder, x: str) -> str:
    size = WIDTH if b.rank == 2 else 3
    ones, zeros = np.ones(size, "f4"), np.zeros(size, "f4")
    given = [b.constant(value) for value in (ones, zeros, zeros, ones)]
    return b.add("BatchNormalization", x, *given, outputs=3, training_mode=1)


def _one_axis(b: Builder, x: str) -> str:
    """The mean of all, seen as one row."""
    line = b.add("Reshape", x, b.constant(np.array([1, -1], np.int64)))
    return b.add("Sub", x, b.add("ReduceMean", line, axes=[1], keepdims=0))


def _einsum(b: Builder, x: str) -> str:
    letters = "abc"[: b.rank]
    total = b.add("Einsum", x, equation=f"{letters}->{letters[1:]}")
    return b.add("Add", x, total)


def _length_of_run(b: Builder, x: str) -> str:
    count = b.add("Gather", b.add("Shape", x), b.constant(np.int64(0)), axis=0)
    return b.add("Mul", x, b.cast(count))


def _shape_product(b: Builder, x: str) -> str:
    """Looks as if: the product of a shape without its rows, over all its axes."""
    rest = b.add("Slice", b.add("Shape", x), b.constant([1]), b.constant([9]))
    return b.add("Mul", x, b.cast(b.add("ReduceProd", rest, keepdims=0)))


def _constant_mean(b: Builder, x: str) -> str:
    """Looks as if: the mean over the first axis of a constant."""
    values = b.constant(b.numbers.standard_normal((3, 1)).astype("f4"))
    return b.add("Add", x, b.add("ReduceMean", values, axes=[0], keepdims=0))


def _unused(b: Builder, x: str) -> str:
    """Looks as if: of a mean over the rows only the shape is used."""
    mean = b.add("ReduceMean", x, axes=[0], keepdims=0)
    zero = b.add("ConstantOfShape", b.add("Shape", mean))
    return b.add("Add", x, zero)


def _merged(b: Builder, x: str) -> str:
    """Rows and the axes between as one axis, and back."""
    shape = b.add("Shape", x)
    line = b.add("Reshape", x, b.constant(np.array([-1, WIDTH], np.int64)))
    return b.add("Reshape", b.add("Softmax", line, axis=-1), shape)


def _turned_back(b: Builder, x: str) -> str:
    order = list(range(b.rank))[::-1]
    turned = b.add("Tanh", b.add("Transpose", x, perm=order))
    return b.add("Transpose", turned, perm=order)


def _layer_norm(b: Builder, x: str) -> str:
    weight = b.constant(np.ones(WIDTH, "f4"))
    return b.add("LayerNormalization", x, weight, axis=-1)


def _own_max(b: Builder, x: str) -> str:
    return _reduced("ReduceMax", [-1])(b, x)


def _where(b: Builder, x: str) -> str:
    return b.add("Where", b.add("Greater", x, b.floats(0, 1)), x, b.floats(-1, 0, 7))


RIGHT: Final[dict[str, Step]] = {
    "affine": _affine,
    "matmul": _matmul,
    "relu": _unary("Relu"),
    "clip": _clip,
    "sign": _unary("Sign"),
    "tanh": _unary("Tanh"),
    "sigmoid": _unary("Sigmoid"),
    "round": _unary("Round"),
    "threshold": _threshold,
    "softmax": lambda b, x: b.add("Softmax", x, axis=-1),
    "at_least": lambda b, x: b.add("Max", x, b.floats(0, 2, 10)),
    "own_max": _own_max,
    "own_sum": _reduced("ReduceSum", [-1]),
    "own_cumsum": lambda b, x: _cumulated(b, x, 1),
    "where": _where,
    "layer_norm": _layer_norm,
    "merged": _merged,
    "turned_back": _turned_back,
    "shape_product": _shape_product,
    "constant_mean": _constant_mean,
    "unused": _unused,
}
"""Steps that move no other row."""

MIXING: Final[dict[str, Step]] = {
    "max": _reduced("ReduceMax", [0]),
    "min": _reduced("ReduceMin", [0], "Sub"),
    "mean": _reduced("ReduceMean", [0]),
    "sum": _reduced("ReduceSum", [0]),
    "less_max": _reduced("ReduceMax", [0], "Sub"),
    "by_largest": _reduced("ReduceMax", None, "Div"),
    "by_norm": _reduced("ReduceL2", None, "Div"),
    "less_sum": _reduced("ReduceSum", None, "Sub"),
    "standardised": _standardised,
    "gate": _gate,
    "branch": _branch,
    "quantised": _quantised,
    "cumsum": _cumulated,
    "softmax_rows": lambda b, x: b.add("Softmax", x, axis=0),
    "log_softmax_rows": lambda b, x: b.add("LogSoftmax", x, axis=0),
    "moved_axis": _moved_axis,
    "gram": _gram,
    "first_row": _first_row,
    "rolled": _rolled,
    "sorted": _sorted,
    "best_row": _best_row,
    "counted": _counted,
    "normalised": _normalised,
    "trained": _trained,
    "lp": lambda b, x: b.add("LpNormalization", x, axis=0),
    "hardmax": lambda b, x: b.add("Hardmax", x, axis=0),
    "one_axis": _one_axis,
    "einsum": _einsum,
    "length_of_run": _length_of_run,
}
"""Steps that do, on some values."""

WIDE: Final = {"matmul", "merged", "layer_norm", "trained"}
"""Steps that need a last axis of a fixed size."""

PADDED: Final[dict[str, Step]] = {
    "longest": lambda b, x: _reduced("ReduceMax", [1])(b, x),
    "smallest": lambda b, x: _reduced("ReduceMin", [1])(b, x),
    "average": lambda b, x: _reduced("ReduceMean", [1], "Sub")(b, x),
    "total": lambda b, x: _reduced("ReduceSum", [1])(b, x),
    "attention": lambda b, x: b.add("Softmax", x, axis=1),
    "backwards": lambda b, x: b.add("CumSum", x, b.constant(np.int64(1)), reverse=1),
    "forwards": lambda b, x: _cumulated(b, x, 1),
    "place": lambda b, x: b.add("Add", x, b.cast(b.add("ArgMax", x, axis=1, keepdims=1))),
}
"""Steps that may read the padding of their rows."""


def make(seed: int) -> MadeModel:
    """The model of a seed; ONNX Runtime may not take it."""
    b = Builder(seed)
    kind = b.draw.choice(["float"] * 5 + ["integer"] * 2 + ["byte", "place"])
    shape: list[Any] = ["rows", WIDTH]
    is_ragged = b.draw.random() < 0.3
    pad: dict[str, float] = {}
    if is_ragged:
        shape = ["rows", "length"]
        if b.draw.random() < 0.5:
            pad = {"x": b.draw.choice([0, 0, 1]) if kind != "float" else b.draw.choice([0, 0, -1])}
    elif b.draw.random() < 0.25:
        shape, b.rank = ["rows", 3, WIDTH], 3
    if kind == "place":
        table = b.numbers.standard_normal(VOCABULARY).astype("f4") * b.draw.choice([1, 10])
        b.at = b.add("Gather", b.constant(table), b.at)
    elif kind != "float":
        b.at = b.cast(b.at)
    steps: list[str] = []
    is_mixed = False
    for _ in range(b.draw.randrange(2, 8)):
        name, step = _choose(b, is_ragged=is_ragged, is_padded=bool(pad), is_mixed=is_mixed)
        is_mixed = is_mixed or name in MIXING
        steps.append(name)
        b.at = step(b, b.at)
    outputs = {"y": b.at}
    if b.draw.random() < 0.1:  # a random output beside the answer
        outputs["drawn"] = b.add("RandomNormalLike", b.at)
        steps.append("drawn")
    for name, at in outputs.items():
        b.nodes.append(helper.make_node("Identity", [at], [name]))
    element = {"float": TensorProto.FLOAT, "byte": TensorProto.UINT8}.get(kind, TensorProto.INT64)
    graph = helper.make_graph(
        b.nodes,
        "made",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in b.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=9)
    return MadeModel(
        model.SerializeToString(),
        (kind, *steps),
        VOCABULARY if kind == "place" else None,
        pad,
        _example(b, kind, shape) if b.draw.random() < 0.4 else None,
    )


def _choose(b: Builder, *, is_ragged: bool, is_padded: bool, is_mixed: bool) -> tuple[str, Step]:
    draw = b.draw.random()
    if is_padded and draw < 0.25:
        steps = PADDED
    elif draw < (0.05 if is_mixed or is_padded else 0.3):
        steps = MIXING
    else:
        steps = RIGHT
    name = b.draw.choice([name for name in steps if not (is_ragged and name in WIDE)])
    return name, steps[name]


def _example(b: Builder, kind: str, shape: list[Any]) -> dict[str, np.ndarray]:
    sizes = [size if isinstance(size, int) else b.draw.randrange(1, 9) for size in shape[1:]]
    if kind == "float":
        scale = b.draw.choice([0.1, 1, 1, 30])
        return {"x": (b.numbers.standard_normal(sizes) * scale).astype("f4")}
    most = {"place": VOCABULARY, "byte": 256}.get(kind, b.draw.choice([2, 10, 1000]))
    low = b.draw.randrange(most)
    values = b.numbers.integers(low, most, sizes)
    return {"x": values.astype(np.uint8 if kind == "byte" else np.int64)}

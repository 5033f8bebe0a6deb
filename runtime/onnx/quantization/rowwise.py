"""Int8 weights and activations, rounded so that a row's answer never depends on its batch-mates.

Rules. Each MatMul of an activation [..., in] and a constant weight becomes a product of uint8 (the
activation) and int8 (the weight, one symmetric scale for each output channel), summed exactly in
int32 and scaled back to float32. A constant bias that follows joins it where it can. All else stays
float32.

Theory. ONNX Runtime's ``quantize_dynamic`` takes *one* activation scale over the whole batch
tensor: padding and neighbours then move every answer (by 0.04 of an embedding of length 1,
measured). A scale by row or by channel costs the same and moves none. Integer sums are exact, so
neither their order nor the number of rows in a run changes a bit of them.

What would break it: rounding by a reduction over any axis but the last. Int8 x int8 instead of
uint8 x int8 is right and 7 times slower on x86. On x86 CPUs without VNNI or AMX the kernel adds
pairs of products in int16, which 255 * 127 * 2 overflows: ``weight_bits=7`` fits.

The result uses ``com.microsoft::MatMulIntegerToFloat``, which runs on CPUs; GPUs want the float
model.

Activations become uint8, each row (the last axis) by its own values alone, in one of four ways;
cheapest first when running:

* **by channel**: a scale for each channel, fixed beforehand from observed ranges. Nothing is
  reduced, no row scale has to come back, and where one channel is ten times larger than usual in
  some rows (BERT has such) the others keep their resolution there. A value beyond its range is cut
  off, so it is for values with a bound, such as a LayerNormalization's output;
  ``acceptance.measure_ranges`` observes the ranges.
* **from a floor**: for the output of an operator in ``FLOORS``, from that constant to the row's
  maximum.
* **symmetric**: zero in the middle, the row's largest magnitude at the end.
* **asymmetric**: from the row's minimum to its maximum; the minimum times the weight has to be
  added to every output.

A row of equal values has the scale 0 and is divided by it: whatever integer 0/0 becomes, it is
multiplied by 0 afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.quantization.graph_writer import GraphWriter

MICROSOFT: Final = "com.microsoft"

EMBEDDING_ROWS: Final = 1024
"""A table with fewer rows than this stays float32: nothing is won."""

Ranges = Mapping[str, NDArray[np.float32]]


def quantize_rows(
    model: onnx.ModelProto,
    *,
    ranges: Ranges | None = None,
    asymmetric: Callable[[str], bool] = lambda weight: False,
    embeddings: bool = False,
    weight_bits: int = 8,
) -> onnx.ModelProto:
    """A copy of a float32 model whose MatMuls with constant weights run in int8.

    Args:
        model: with its weights inside; not changed.
        ranges: activations to round by channel: name to the largest magnitude of each channel,
            float32 [in].
        asymmetric: whether the input of the MatMul with a weight of this name is rounded from its
            minimum to its maximum.
        embeddings: also keep large tables that Gather reads as int8, a scale for each row: a
            quarter of the file and of the memory.
        weight_bits: 8, or 7 for CPUs without VNNI.

    Raises:
        onnx.checker.ValidationError: the model was not valid.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next(used.version for used in result.opset_import if used.domain in ("", "ai.onnx"))
    _Rewriter(
        result.graph, opset, ranges or {}, asymmetric, embeddings, 2 ** (weight_bits - 1) - 1
    ).run()
    if MICROSOFT not in {used.domain for used in result.opset_import}:
        result.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.checker.check_model(result)
    return result


class _Rewriter:
    """One pass over a graph in its own, topological order."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        opset: int,
        ranges: Ranges,
        asymmetric: Callable[[str], bool],
        embeddings: bool,
        limit: int,
    ) -> None:
        self._graph = graph
        self._opset = opset
        self._ranges = ranges
        self._asymmetric = asymmetric
        self._embeddings = embeddings
        self._limit = limit
        self._floats = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        self._makers = {name: node.op_type for node in graph.node for name in node.output}
        self._uses = Counter(
            [
                *(name for node in graph.node for name in node.input),
                *(value.name for value in graph.output),
            ]
        )
        self._adds = {
            name: node for node in graph.node if node.op_type == "Add" for name in node.input
        }
        # what the pass changes: the new graph, activations already rounded by (name, method), and
        # results of the Adds that joined a product
        self._write = GraphWriter(prefix="int8 ")
        self._rounded: dict[tuple[str, str], Rounded] = {}
        self._joined: set[str] = set()

    def run(self) -> None:
        """Replaces the graph's nodes and initializers."""
        for node in self._graph.node:
            if node.op_type == "MatMul" and self._rank(node.input[1]) == 2:
                self._matmul(node)
            elif (
                self._embeddings
                and node.op_type == "Gather"
                and self._rank(node.input[0]) == 2
                and self._is_large(node.input[0])
            ):
                self._gather(node)
            elif node.output[0] not in self._joined:
                self._write.nodes.append(node)
        read = {name for node in self._write.nodes for name in node.input} | {
            value.name for value in self._graph.output
        }
        kept = [
            tensor
            for tensor in [*self._graph.initializer, *self._write.constants.values()]
            if tensor.name in read
        ]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._write.nodes)
        self._graph.initializer.extend(kept)

    def _matmul(self, node: onnx.NodeProto) -> None:
        x, name = node.input
        weight = self._value(name)
        bias, result = self._bias(node)
        if x in self._ranges:
            scales = np.maximum(self._ranges[x].astype(np.float64), 1e-8) / 127
            rounded = self._round_once(
                x, "channel", lambda: round_by_channel(self._write, x, scales)
            )
            self._product(rounded, name, weight * scales[:, None], bias=bias, output=result)
            return
        rounded = self._by_row(x, name, weight.shape[0])
        values, steps = self._int8(weight)
        # what 1 added to every input adds to the outputs
        sums = values.sum(0, dtype=np.int64) * steps
        parts = [self._write.node("Mul", self._product(rounded, name, weight), rounded.scale)]
        if rounded.low:
            parts.append(
                self._write.node("Mul", rounded.low, self._write.constant(f"{name} sum", sums))
            )
        if rounded.floor:
            bias = rounded.floor * sums + (0 if bias is None else bias)
        if bias is not None:
            parts.append(self._write.constant(f"{name} bias", bias))
        while len(parts) > 2:
            parts[:2] = [self._write.node("Add", *parts[:2])]
        self._write.node("Add" if len(parts) == 2 else "Identity", *parts, output=result)

    def _by_row(self, x: str, weight: str, width: int) -> Rounded:
        floor = FLOORS.get(self._makers.get(x, ""))
        method: RoundingMethod = (
            "asymmetric" if self._asymmetric(weight) else "symmetric" if floor is None else "floor"
        )
        start = floor if floor is not None and method == "floor" else 0.0
        return self._round_once(
            x,
            method,
            lambda: round_by_row(self._write, x, width, method, opset=self._opset, floor=start),
        )

    def _round_once(self, x: str, method: str, make: Callable[[], Rounded]) -> Rounded:
        if (x, method) not in self._rounded:
            self._rounded[x, method] = make()
        return self._rounded[x, method]

    def _bias(self, node: onnx.NodeProto) -> tuple[NDArray[np.float64] | None, str]:
        """The constant vector that alone reads the product, and the name of the result with it."""
        product = node.output[0]
        add = self._adds.get(product)
        if add is not None and self._uses[product] == 1:
            other = next((name for name in add.input if name != product), product)
            if self._rank(other) == 1:
                self._joined.add(add.output[0])
                return self._value(other), add.output[0]
        return None, product

    def _product(
        self,
        x: Rounded,
        name: str,
        weight: NDArray[np.float64],
        *,
        bias: NDArray[np.float64] | None = None,
        output: str = "",
    ) -> str:
        values, steps = self._int8(weight)
        write, one = self._write, self._write.floats(1)
        inputs = [
            x.values,
            write.constant(name, values, np.int8),
            one,
            write.constant(f"{name} scale", steps),
            x.zero,
        ]
        if bias is not None:
            inputs += ["", write.constant(f"{name} bias", bias)]
        return write.node("MatMulIntegerToFloat", *inputs, output=output, domain=MICROSOFT)

    def _int8(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Whole numbers [in, out] and the step of each output channel."""
        steps = np.maximum(np.abs(weight).max(0), 1e-12) / self._limit
        return np.round(weight / steps), steps

    def _gather(self, node: onnx.NodeProto) -> None:
        write, (table, ids) = self._write, node.input
        values, steps = self._int8(self._value(table).T)
        found = write.node(
            "Cast",
            write.node("Gather", write.constant(table, values.T, np.int8), ids),
            to=TensorProto.FLOAT,
        )
        write.node(
            "Mul",
            found,
            write.node("Gather", write.constant(f"{table} scale", steps[:, None]), ids),
            output=node.output[0],
        )

    def _is_large(self, table: str) -> bool:
        return bool(self._floats[table].dims[0] >= EMBEDDING_ROWS)

    def _rank(self, name: str) -> int:
        """Of a float32 constant; -1 for anything else."""
        return len(self._floats[name].dims) if name in self._floats else -1

    def _value(self, name: str) -> NDArray[np.float64]:
        return np.asarray(numpy_helper.to_array(self._floats[name]), np.float64)


FLOORS: Final = {"Gelu": -0.1701, "Relu": 0.0, "Sigmoid": 0.0, "Softmax": 0.0}
"""The least value of operators whose output starts at a constant."""

BLOCKS_OPSET: Final = 21
"""Operator set whose QuantizeLinear takes a scale for each block of an axis; older models divide
first, one more pass.
"""

RoundingMethod = Literal["floor", "symmetric", "asymmetric"]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Names of the tensors that replace an activation ``x``: ``x = scale * (values - zero) + low``.

    Attributes:
        values: uint8 [..., in].
        zero: uint8 scalar constant.
        scale: float32 [..., 1]; empty where the scales are part of the weight.
        low: float32 [..., 1] (asymmetric); empty otherwise.
        floor: a constant ``low``.
    """

    values: str
    zero: str
    scale: str = ""
    low: str = ""
    floor: float = 0.0


def round_by_channel(write: GraphWriter, x: str, scales: NDArray[np.float64]) -> Rounded:
    """``x / scales``, rounded around 128."""
    zero = write.constant("zero 128", 128, np.uint8)
    even = write.node("Mul", x, write.constant(f"{x} 1/scale", 1 / scales))
    return Rounded(write.node("QuantizeLinear", even, write.floats(1), zero), zero)


def round_by_row(
    write: GraphWriter,
    x: str,
    width: int,
    method: RoundingMethod,
    *,
    opset: int,
    floor: float = 0.0,
) -> Rounded:
    """``x`` [..., width] with a scale for each row.

    Args:
        floor: the least value of ``x``, for the method of that name.
        opset: of the model.
    """
    if method == "symmetric":
        shifted, low = x, ""
        span, steps, start = _reduce(write, "ReduceMax", write.node("Abs", x), opset), 127, 128
    elif method == "floor":
        shifted, low = (write.node("Sub", x, write.floats(floor)) if floor else x), ""
        span, steps, start = _reduce(write, "ReduceMax", shifted, opset), 255, 0
    else:
        low = _reduce(write, "ReduceMin", x, opset)
        shifted = write.node("Sub", x, low)
        span, steps, start = _reduce(write, "ReduceMax", shifted, opset), 255, 0
    zero = write.constant(f"zero {start}", start, np.uint8)
    scale = write.node("Mul", span, write.constant(f"float 1/{steps}", 1 / steps))
    if opset < BLOCKS_OPSET:
        values = write.node(
            "QuantizeLinear", write.node("Div", shifted, scale), write.floats(1), zero
        )
    else:
        zeros = write.node("Expand", zero, write.node("Shape", scale))
        values = write.node("QuantizeLinear", shifted, scale, zeros, axis=-1, block_size=width)
    return Rounded(values, zero, scale, low, floor)


def _reduce(write: GraphWriter, op: str, x: str, opset: int) -> str:
    """Reduce the last axis, which is an attribute before operator set 18 and an input from then
    on.
    """
    return (
        write.node(op, x, axes=[-1], keepdims=1)
        if opset < 18
        else write.node(op, x, write.ints(-1), keepdims=1)
    )

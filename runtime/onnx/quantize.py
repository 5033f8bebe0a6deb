"""Int8 weights and activations whose rounding never depends on a row's company.

Rules. Each MatMul of an activation [..., in] and a constant weight becomes a product of uint8 (the activation, see ``rounding``) and int8
(the weight, one symmetric scale for each output channel), summed exactly in int32 and scaled back to float32. A constant bias that follows
joins it where it can. All else stays float32.

Theory. ONNX Runtime's ``quantize_dynamic`` takes *one* activation scale over the whole batch tensor: padding and neighbours then move
every answer (by 0.04 of an embedding of length 1, measured). A scale by row or by channel costs the same and moves none. Integer sums
are exact, so neither their order nor the number of rows in a run changes a bit of them.

What would break it: rounding by a reduction over any axis but the last. Int8 x int8 instead of uint8 x int8 is right and 7 times slower on
x86. On x86 CPUs without VNNI or AMX the kernel adds pairs of products in int16, which 255 * 127 * 2 overflows: ``weight_bits=7`` fits.

The result uses ``com.microsoft::MatMulIntegerToFloat``, which runs on CPUs; GPUs want the float model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.rounding import FLOORS, Rounded, Way, by_channel, by_row
from runtime.onnx.writer import GraphWriter

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
        ranges: activations to round by channel: name to the largest magnitude of each channel, float32 [in].
        asymmetric: whether the input of the MatMul with a weight of this name is rounded from its minimum to its maximum.
        embeddings: also keep large tables that Gather reads as int8, a scale for each row: a quarter of the file and of the memory.
        weight_bits: 8, or 7 for CPUs without VNNI.

    Raises:
        onnx.checker.ValidationError: the model was not valid.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next(each.version for each in result.opset_import if each.domain in ("", "ai.onnx"))
    _Rewriter(result.graph, opset, ranges or {}, asymmetric, embeddings, 2 ** (weight_bits - 1) - 1).run()
    if MICROSOFT not in {each.domain for each in result.opset_import}:
        result.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.checker.check_model(result)
    return result


class _Rewriter:
    """One pass over a graph in its own, topological order."""

    def __init__(
        self, graph: onnx.GraphProto, opset: int, ranges: Ranges, asymmetric: Callable[[str], bool], embeddings: bool, limit: int
    ) -> None:
        self._graph = graph
        self._opset = opset
        self._ranges = ranges
        self._asymmetric = asymmetric
        self._embeddings = embeddings
        self._limit = limit
        self._floats = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        self._makers = {name: node.op_type for node in graph.node for name in node.output}
        self._uses = Counter([*(name for node in graph.node for name in node.input), *(value.name for value in graph.output)])
        self._adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
        # what the pass changes: the new graph, activations already rounded by (name, way), results of the Adds that joined a product
        self._write = GraphWriter(prefix="int8 ")
        self._rounded: dict[tuple[str, str], Rounded] = {}
        self._joined: set[str] = set()

    def run(self) -> None:
        """Replaces the graph's nodes and initializers."""
        for node in self._graph.node:
            if node.op_type == "MatMul" and self._rank(node.input[1]) == 2:
                self._matmul(node)
            elif self._embeddings and node.op_type == "Gather" and self._rank(node.input[0]) == 2 and self._is_large(node.input[0]):
                self._gather(node)
            elif node.output[0] not in self._joined:
                self._write.nodes.append(node)
        read = {name for node in self._write.nodes for name in node.input} | {value.name for value in self._graph.output}
        kept = [tensor for tensor in [*self._graph.initializer, *self._write.constants.values()] if tensor.name in read]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._write.nodes)
        self._graph.initializer.extend(kept)

    def _matmul(self, node: onnx.NodeProto) -> None:
        x, name = node.input
        weight = self._value(name)
        bias, result = self._bias(node)
        if x in self._ranges:
            scales = np.maximum(self._ranges[x].astype(np.float64), 1e-8) / 127
            rounded = self._once(x, "channel", lambda: by_channel(self._write, x, scales))
            self._product(rounded, name, weight * scales[:, None], bias=bias, output=result)
            return
        rounded = self._by_row(x, name, weight.shape[0])
        values, steps = self._int8(weight)
        sums = values.sum(0, dtype=np.int64) * steps  # what 1 added to every input adds to the outputs
        parts = [self._write.node("Mul", self._product(rounded, name, weight), rounded.scale)]
        if rounded.low:
            parts.append(self._write.node("Mul", rounded.low, self._write.constant(f"{name} sum", sums)))
        if rounded.floor:
            bias = rounded.floor * sums + (0 if bias is None else bias)
        if bias is not None:
            parts.append(self._write.constant(f"{name} bias", bias))
        while len(parts) > 2:
            parts[:2] = [self._write.node("Add", *parts[:2])]
        self._write.node("Add" if len(parts) == 2 else "Identity", *parts, output=result)

    def _by_row(self, x: str, weight: str, width: int) -> Rounded:
        floor = FLOORS.get(self._makers.get(x, ""))
        way: Way = "asymmetric" if self._asymmetric(weight) else "symmetric" if floor is None else "floor"
        start = floor if floor is not None and way == "floor" else 0.0
        return self._once(x, way, lambda: by_row(self._write, x, width, way, opset=self._opset, floor=start))

    def _once(self, x: str, way: str, make: Callable[[], Rounded]) -> Rounded:
        if (x, way) not in self._rounded:
            self._rounded[x, way] = make()
        return self._rounded[x, way]

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
        self, x: Rounded, name: str, weight: NDArray[np.float64], *, bias: NDArray[np.float64] | None = None, output: str = ""
    ) -> str:
        values, steps = self._int8(weight)
        write, one = self._write, self._write.floats(1)
        inputs = [x.values, write.constant(name, values, np.int8), one, write.constant(f"{name} scale", steps), x.zero]
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
        found = write.node("Cast", write.node("Gather", write.constant(table, values.T, np.int8), ids), to=TensorProto.FLOAT)
        write.node("Mul", found, write.node("Gather", write.constant(f"{table} scale", steps[:, None]), ids), output=node.output[0])

    def _is_large(self, table: str) -> bool:
        return bool(self._floats[table].dims[0] >= EMBEDDING_ROWS)

    def _rank(self, name: str) -> int:
        """Of a float32 constant; -1 for anything else."""
        return len(self._floats[name].dims) if name in self._floats else -1

    def _value(self, name: str) -> NDArray[np.float64]:
        return np.asarray(numpy_helper.to_array(self._floats[name]), np.float64)

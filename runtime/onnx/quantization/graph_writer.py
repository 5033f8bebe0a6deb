"""Writing an ONNX graph node by node, each call giving back the name of what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper


class GraphWriter:
    """Collects nodes and constants; a constant of a name already written is the first one.

    Args:
        prefix: before the name of everything that the caller does not name, so that additions to a
            graph meet no name of its own.
    """

    def __init__(self, *, prefix: str = "") -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: ArrayLike, dtype: type = np.float32) -> str:
        """An initializer of that value."""
        name = self._prefix + name
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(
                np.asarray(value, dtype, order="C"), name
            )
        return name

    def floats(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"float {value!r}", value)

    def ints(self, *values: int) -> str:
        """An int64 vector, as the shape and axes inputs of operators want."""
        return self.constant(f"int {' '.join(map(str, values))}", values, np.int64)

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One node with one output; an empty input is an optional one left out."""
        output = output or f"{self._prefix}{op} {len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                op, inputs, [output], name=f"{self._prefix}{op} {len(self.nodes)}", **attributes
            )
        )
        return output

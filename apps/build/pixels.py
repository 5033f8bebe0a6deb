"""A model of pictures made to take pictures: what was normalised numbers, channels first, becomes
pixels as they are decoded.

A row is then uint8 [height, width, 3], a quarter of what it was, wherever it waits, is copied or
travels; and callers of the model need no constants. The arithmetic moves into the first
convolution, where it costs nothing but the subtraction.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.quantization.graph_writer import GraphWriter

PIXELS = "pixels"


def takes_pixels(
    model: onnx.ModelProto,
    *,
    mean: float,
    scale: float,
    bgr: bool = False,
    height: int | str = "height",
    width: int | str = "width",
) -> None:
    """Changes the model in place: its only input, float32 [rows, 3, height, width], becomes
    ``pixels``, uint8 [rows, height, width, 3].

    Channels are red, green, blue.

    Args:
        mean: taken off each pixel; of all channels.
        scale: by which it is then divided.
        bgr: the model wants blue first.

    Raises:
        ValueError: the input feeds anything but one convolution.
    """
    graph = model.graph
    if len(graph.input) != 1:
        raise ValueError(
            f"the model takes {', '.join(each.name for each in graph.input)}; one picture is "
            "wanted."
        )
    name = graph.input[0].name
    users = [node for node in graph.node if name in node.input]
    if [node.op_type for node in users] != ["Conv"]:
        raise ValueError(
            f"{name!r} feeds {', '.join(node.op_type for node in users)}; one Conv is "
            "wanted, to take over the arithmetic."
        )
    first = next(each for each in graph.initializer if each.name == users[0].input[1])
    weight = numpy_helper.to_array(first).astype(np.float64) / scale
    weight = weight[:, ::-1] if bgr else weight
    first.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), first.name))

    write = GraphWriter(prefix="pixels ")
    numbers = write.node(
        "Cast", write.node("Transpose", PIXELS, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT
    )
    write.node("Sub", numbers, write.floats(mean), output=name)
    graph.initializer.extend(write.constants.values())
    for node in reversed(write.nodes):
        graph.node.insert(0, node)
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["rows", height, width, 3])
    )

"""The ranges of activations, observed by running a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

Extent = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Least and greatest value of each channel, float32 [channels]."""


def normalized(model: onnx.ModelProto) -> list[str]:
    """Outputs of LayerNormalizations that a MatMul reads.

    They are what ranges by channel suit: bounded by the square root of their width whatever comes in, and in practice hardly wider on
    any text than on random tokens.
    """
    read = {node.input[0] for node in model.graph.node if node.op_type == "MatMul"}
    return [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization" and node.output[0] in read]


def extents(model: onnx.ModelProto, names: Iterable[str], feeds: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, Extent]:
    """Runs the model on every feed and keeps, for each named value [..., channels], the extremes of its channels.

    Args:
        model: with its weights inside, at most 2 GB; not changed.
        feeds: inputs without padding, since what a model computes for padding counts too.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(names)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, Extent] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high = rows.min(0), rows.max(0)
            if name in found:
                low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
            found[name] = low, high
    return found

"""The parts of the rewritten speech detector, each against the operator it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from apps.build.listen import REFLECTED, WINDOW, dense, folded
from runtime.onnx.quantization.acceptance import run_unbatched


@pytest.mark.parametrize(("positions", "stride"), [(4, 1), (4, 2), (2, 2), (1, 1), (3, 2)])
def test_a_convolution_is_one_product(positions: int, stride: int):
    """ONNX Runtime's own, padded by one, over as many positions."""
    random = np.random.default_rng(positions * 10 + stride)
    weight, bias = (
        random.normal(size=(5, 3, 3)).astype(np.float32),
        random.normal(size=5).astype(np.float32),
    )
    values = random.normal(size=(2, positions, 3)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], kernel_shape=[3], pads=[1, 1], strides=[stride]
    )
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwb"]
    graph = helper.make_graph(
        [node], "conv", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected = run_unbatched(model, {"x": values.transpose(0, 2, 1), "w": weight, "b": bias})[
        "y"
    ].transpose(0, 2, 1)
    matrix, repeated = dense(weight, bias, positions, stride)
    ours = values.reshape(2, -1) @ matrix + repeated
    np.testing.assert_allclose(ours.reshape(expected.shape), expected, atol=1e-5)


def test_a_mirrored_end_is_folded_into_the_weights():
    """As if the last 64 samples had been mirrored without their edge, whatever is there
    instead.
    """
    random = np.random.default_rng(0)
    basis = random.normal(size=(6, WINDOW)).astype(np.float32)
    sound = random.normal(size=WINDOW - REFLECTED).astype(np.float32)
    mirrored = np.pad(sound, (0, REFLECTED), mode="reflect")
    anything = np.concatenate([sound, random.normal(size=REFLECTED).astype(np.float32)])
    np.testing.assert_allclose(folded(basis) @ anything, basis @ mirrored, atol=1e-4)

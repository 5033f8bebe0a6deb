"""A model of numbers made a model of pixels: the same answers, and a refusal where that cannot be
promised.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from apps.build.pixels import takes_pixels

WEIGHT = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)


def model(*, op="Conv"):
    """Numbers float32 [rows, 3, height, width] through one node."""
    inputs = ["x", "weight"] if op == "Conv" else ["x"]
    node = helper.make_node(op, inputs, ["y"], **({"pads": [1, 1, 1, 1]} if op == "Conv" else {}))
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", None, "h", "w"])
        for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [node], "tiny", value[:1], value[1:], [numpy_helper.from_array(WEIGHT, "weight")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(made, **feed):
    return ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, feed
    )[0]


@pytest.mark.parametrize("bgr", [False, True])
def test_pixels_give_what_numbers_gave(bgr):
    """At the edges too, where the convolution's own padding is a pixel of the mean."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3), np.uint8)
    numbers = ((pixels[..., ::-1] if bgr else pixels).astype(np.float32) - 127.5) / 60
    made = model()
    takes_pixels(made, mean=127.5, scale=60, bgr=bgr)
    onnx.checker.check_model(made)
    np.testing.assert_allclose(
        run(made, pixels=pixels), run(model(), x=numbers.transpose(0, 3, 1, 2)), atol=1e-4
    )


def test_a_model_that_does_not_begin_with_a_convolution_is_refused():
    """There is nothing that could take over the arithmetic."""
    with pytest.raises(ValueError, match=r"'x'.*Relu.*Conv"):
        takes_pixels(model(op="Relu"), mean=0, scale=1)

"""PP-OCR's models made to be called: what they give, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from apps.build.paddleocr import build
from runtime.errors import StoreError

random = np.random.default_rng(0)


def detector():
    """A convolution and a Sigmoid: one channel out, of the size that came in."""
    weight = random.normal(size=(1, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["y"], ["fetch"]),
    ]
    return model(nodes, {"w": weight}, [None, 3, None, None], [None, 1, None, None])


def recogniser(characters):
    """A convolution over eight columns, the mean of the height, and a Softmax over the characters."""
    weight = random.normal(size=(5, 3, 48, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[48, 8]),
        helper.make_node("Squeeze", ["y", "axis"], ["z"]),
        helper.make_node("Transpose", ["z"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Softmax", ["t"], ["fetch"], axis=2),
    ]
    made = model(
        nodes, {"w": weight, "axis": np.array([2], np.int64)}, [None, 3, 48, None], [None, None, 5]
    )
    made.metadata_props.add(key="character", value=characters)
    return made


def model(nodes, constants, taken, given):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info("fetch", TensorProto.FLOAT, given)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    # `axes` of reductions is an attribute in opset 11, as in the models of the wheel, and Squeeze's
    # an input since 13: between the two
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def source(tmp_path):
    """A folder as the pull unpacks it."""
    onnx.save(detector(), str(tmp_path / "det.onnx"))
    onnx.save(recogniser("a\nb\nc"), str(tmp_path / "rec.onnx"))
    (tmp_path / "page.png").write_bytes(b"a page")
    return tmp_path


def test_the_likeliest_characters_come_out(source, tmp_path):
    """Of each step its number and how likely it is; the alphabet next to the model says what the
    numbers are.
    """
    remarks = []
    build(source, tmp_path, remarks.append)
    pixels = random.integers(0, 256, (2, 48, 32, 3), np.uint8)
    numbers = ((pixels[..., ::-1].astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    (wanted,) = run(source / "rec.onnx", x=numbers)
    characters, certainties = run(tmp_path / "recognise.onnx", pixels=pixels)
    assert np.array_equal(characters, wanted.argmax(2))
    np.testing.assert_allclose(certainties, wanted.max(2), atol=1e-5)
    assert (tmp_path / "alphabet.txt").read_text().split("\n") == ["", "a", "b", "c", " "]
    assert run(tmp_path / "detect.onnx", pixels=pixels)[0].shape == (2, 1, 48, 32)
    assert (tmp_path / "sample.png").read_bytes() == b"a page"
    assert remarks[0].startswith("4 characters; answers within")


def test_an_alphabet_that_does_not_fit_is_refused(source, tmp_path):
    """One more or less would shift every letter after it."""
    onnx.save(recogniser("a\nb"), str(source / "rec.onnx"))
    with pytest.raises(StoreError, match=r"\b5 characters.*\b2\b.*space"):
        build(source, tmp_path, lambda remark: None)


def run(path, **feed):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)

"""EfficientNet written as ONNX: its parts against numpy, and its refusal of weights that do not
see.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from PIL import Image

from apps.build import efficientnet
from apps.build.efficientnet import CLASSES, EPSILON, STRIDES, build
from runtime.errors import StoreError
from tests.apps.pictures import encoded
from tests.apps.test_build_torchfile import checkpoint, tensor

NORM = ("weight", "bias", "running_mean", "running_var")


def block_weights(random, out):
    """One block: 4 channels, widened to 8, 3 x 3 by channel, narrowed to ``out``."""
    shapes = {
        "_expand_conv": (8, 4, 1, 1),
        "_depthwise_conv": (8, 1, 3, 3),
        "_project_conv": (out, 8, 1, 1),
    }
    weights = {
        f"b.{name}.weight": random.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    for norm, count in (("_bn0", 8), ("_bn1", 8), ("_bn2", out)):
        for part in ("weight", "bias", "running_mean"):
            weights[f"b.{norm}.{part}"] = random.normal(size=count).astype(np.float32)
        weights[f"b.{norm}.running_var"] = random.uniform(0.5, 2, count).astype(np.float32)
    return weights


def oracle(weights, x, stride):
    """The block on float [4, size, size], a loop over every output pixel."""

    def norm(part, y):
        gamma, beta, mean, variance = (
            weights[f"b.{part}.{each}"][:, None, None]
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        return (y - mean) / np.sqrt(variance + EPSILON) * gamma + beta

    wide = np.clip(
        norm("_bn0", np.einsum("oi,ihw->ohw", weights["b._expand_conv.weight"][:, :, 0, 0], x)),
        0,
        6,
    )
    size = x.shape[1]
    out = -(-size // stride)
    missing = max((out - 1) * stride + 3 - size, 0)
    padded = np.pad(wide, ((0, 0), *[(missing // 2, missing - missing // 2)] * 2))
    deep = np.empty((8, out, out))
    for row in range(out):
        for column in range(out):
            seen = padded[:, row * stride : row * stride + 3, column * stride : column * stride + 3]
            deep[:, row, column] = (seen * weights["b._depthwise_conv.weight"][:, 0]).sum((1, 2))
    deep = np.clip(norm("_bn1", deep), 0, 6)
    narrow = norm(
        "_bn2", np.einsum("oi,ihw->ohw", weights["b._project_conv.weight"][:, :, 0, 0], deep)
    )
    return narrow + x if stride == 1 and narrow.shape == x.shape else narrow


@pytest.mark.parametrize(
    ("stride", "size", "out"),
    [(1, 6, 4), (2, 6, 4), (2, 7, 4), (1, 6, 5)],
    ids=["added to", "halved", "halved, odd", "other channels"],
)
def test_a_block_is_the_networks(stride, size, out):
    """Padding to the right and below, normalisation folded in, and what came in added where it
    fits.
    """
    random = np.random.default_rng(0)
    weights, x = (
        block_weights(random, out),
        random.normal(size=(2, 4, size, size)).astype(np.float32),
    )
    write = efficientnet.Layers(weights)
    name = write.block("x", "b", stride=stride, size=size)
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in ("x", name)]
    graph = helper.make_graph(
        write.nodes, "block", values[:1], values[1:], list(write.constants.values())
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = ort.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"x": x})
    np.testing.assert_allclose(
        found, np.stack([oracle(weights, row, stride) for row in x]), atol=1e-4
    )


@pytest.mark.slow
def test_a_network_that_sees_nothing_is_refused(tmp_path):
    """Weights of nought make every class as likely: far from what the original says of the
    photographs.
    """
    shapes = dict(_shapes())
    storages = {
        name: np.zeros(shape, np.float32) + (name.endswith("var")) for name, shape in shapes.items()
    }
    tensors = {
        name: tensor(
            name,
            b"FloatStorage",
            array.size,
            shape=array.shape,
            strides=tuple(stride // 4 for stride in array.strides),
        )
        for name, array in storages.items()
    }
    checkpoint(
        tmp_path / "weights.pth", tensors, {name: array.ravel() for name, array in storages.items()}
    )
    names = [
        "tiger cat",
        "Egyptian cat",
        "tabby",
        "espresso",
        "tripod",
        *(f"thing {n}" for n in range(CLASSES - 5)),
    ]
    (tmp_path / "classes.txt").write_text("\n".join(f"n{n:08d}" for n in range(CLASSES)))
    (tmp_path / "lemmas.txt").write_text(
        "\n".join(f"n{n:08d}\t{name}, another name" for n, name in enumerate(names))
    )
    for name in efficientnet.EXPECTED:
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (8, 8))))
    with pytest.raises(
        StoreError,
        match=r"cat\.png, coffee\.png, camera\.png .*\b0\.950\b",
    ):
        build(tmp_path, tmp_path, lambda remark: None)
    assert not (tmp_path / "model.onnx").exists()


def _shapes():
    """Of all weights of EfficientNet-Lite0."""
    widths = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
    kernels = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)

    def norm(part, count):
        return [(f"{part}.{each}", (count,)) for each in NORM]

    yield from [("_conv_stem.weight", (32, 3, 3, 3)), *norm("_bn0", 32)]
    given = 32
    for block, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        part, wide = f"_blocks.{block}", given * (6 if block else 1)
        if block:
            yield from [
                (f"{part}._expand_conv.weight", (wide, given, 1, 1)),
                *norm(f"{part}._bn0", wide),
            ]
        yield from [
            (f"{part}._depthwise_conv.weight", (wide, 1, kernel, kernel)),
            *norm(f"{part}._bn1", wide),
        ]
        yield from [
            (f"{part}._project_conv.weight", (width, wide, 1, 1)),
            *norm(f"{part}._bn2", width),
        ]
        given = width
    assert len(widths) == len(STRIDES)
    yield from [
        ("_conv_head.weight", (1280, given, 1, 1)),
        *norm("_bn1", 1280),
        ("_fc.weight", (CLASSES, 1280)),
        ("_fc.bias", (CLASSES,)),
    ]

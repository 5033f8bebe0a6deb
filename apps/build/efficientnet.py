"""EfficientNet-Lite0 as ONNX, from its PyTorch checkpoint and without torch, and accepted only if
it sees what it should.

The network is written node by node: a convolution with its batch normalisation folded in, and a
clip to 0..6. No squeeze and excitation, that is what makes it "lite". Kernel sizes and channels are
those of the weights; strides are not in the file, and are written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from apps.build import torchfile
from apps.build.pixels import PIXELS, takes_pixels
from apps.classify import SIDE, photo
from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import run_unbatched
from runtime.onnx.quantization.graph_writer import GraphWriter

Weights = Mapping[str, NDArray[Any]]

STRIDES: Final = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the 16 blocks."""

EPSILON: Final = 1e-3
CLASSES: Final = 1000

EXPECTED: Final = {
    "cat.png": {"tiger cat": 0.385, "Egyptian cat": 0.363, "tabby": 0.167},
    "coffee.png": {"espresso": 0.951},
    "camera.png": {"tripod": 0.937},
}
"""What the original network, run by torch, says of three photographs."""

TOLERANCE: Final = 0.01


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Writes ``model.onnx`` (``pixels`` uint8 [rows, 224, 224, 3] to ``probabilities`` float32
    [rows, 1000]), ``labels.txt`` and a sample.

    Args:
        source: folder with ``weights.pth``, ``classes.txt`` (WordNet's id of each class),
            ``lemmas.txt`` (id, tab, names) and photographs.

    Raises:
        StoreError: the network does not see in the photographs what the original saw.
    """
    model = network(torchfile.read(source / "weights.pth"))
    named = dict(
        line.split("\t", 1)
        for line in (source / "lemmas.txt").read_text(encoding="utf-8").splitlines()
    )
    labels = [
        named[wordnet].split(",")[0].strip()
        for wordnet in (source / "classes.txt").read_text().split()
    ]
    say(f"{len(model.graph.node)} nodes; {_accept(model, labels, source)}")
    onnx.save(model, str(out / "model.onnx"))
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    (out / "sample.png").write_bytes((source / "cat.png").read_bytes())


def network(weights: Weights) -> onnx.ModelProto:
    """The whole network, its Softmax included."""
    write = Layers(weights)
    name = write.clipped(write.conv("image", "_conv_stem", "_bn0", stride=2, size=SIDE))
    size = SIDE // 2
    for block, stride in enumerate(STRIDES):
        name = write.block(name, f"_blocks.{block}", stride=stride, size=size)
        size = -(-size // stride)
    name = write.clipped(write.conv(name, "_conv_head", "_bn1", size=size))
    pooled = write.node("Flatten", write.node("GlobalAveragePool", name), axis=1)
    weight, bias = (
        write.constant(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")
    )
    write.node(
        "Softmax",
        write.node("Gemm", pooled, weight, bias, transB=1),
        output="probabilities",
        axis=1,
    )
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", CLASSES])
    graph = helper.make_graph(
        write.nodes, "efficientnet_lite0", [given], [answer], list(write.constants.values())
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    takes_pixels(model, mean=127, scale=128, height=SIDE, width=SIDE)
    onnx.checker.check_model(model)
    return model


class Layers(GraphWriter):
    """The parts of the network, named as in the checkpoint."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._weights = weights

    def block(self, name: str, part: str, *, stride: int, size: int) -> str:
        """Widen, convolve each channel by itself, narrow; and add what came in, where it has the
        same form.
        """
        wide = name
        if f"{part}._expand_conv.weight" in self._weights:
            wide = self.clipped(self.conv(name, f"{part}._expand_conv", f"{part}._bn0", size=size))
        deep = self.clipped(
            self.conv(
                wide,
                f"{part}._depthwise_conv",
                f"{part}._bn1",
                stride=stride,
                size=size,
                by_channel=True,
            )
        )
        narrow = self.conv(deep, f"{part}._project_conv", f"{part}._bn2", size=size)
        first = self._weights.get(f"{part}._expand_conv.weight")
        is_same = (
            stride == 1
            and first is not None
            and first.shape[1] == self._weights[f"{part}._project_conv.weight"].shape[0]
        )
        return self.node("Add", narrow, name) if is_same else narrow

    def conv(
        self,
        name: str,
        part: str,
        norm: str,
        *,
        size: int,
        stride: int = 1,
        by_channel: bool = False,
    ) -> str:
        """A convolution and the normalisation after it. Padded as TensorFlow does: what does not
        divide evenly goes right and below.
        """
        gamma, beta, mean, variance = (
            self._weights[f"{norm}.{each}"].astype(np.float64)
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        weight = self._weights[f"{part}.weight"] * factor[:, None, None, None]
        kernel = weight.shape[2]
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = missing // 2, missing - missing // 2
        return self.node(
            "Conv",
            name,
            self.constant(f"{part}.weight", weight),
            self.constant(f"{part}.bias", beta - mean * factor),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(weight) if by_channel else 1,
        )

    def clipped(self, name: str) -> str:
        return self.node("Clip", name, self.floats(0), self.floats(6))


def _accept(model: onnx.ModelProto, labels: list[str], source: Path) -> str:
    """How far the photographs' probabilities are from ``EXPECTED``, in words."""
    furthest = 0.0
    rows = run_unbatched(
        model, {PIXELS: np.stack([photo((source / name).read_bytes()) for name in EXPECTED])}
    )["probabilities"]
    for row, expected in zip(rows, EXPECTED.values(), strict=True):
        found = dict(zip(labels, row.tolist(), strict=True))
        furthest = max(
            furthest, *(abs(found[label] - wanted) for label, wanted in expected.items())
        )
    if furthest > TOLERANCE:
        raise StoreError(
            f"the network is refused: what it sees in {', '.join(EXPECTED)} is up to "
            f"{furthest:.3f} from what it should."
        )
    return f"probabilities of {len(EXPECTED)} photographs within {furthest:.4f} of the original's"

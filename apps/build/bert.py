"""BERT sentence encoders: weights of a safetensors file to an ONNX graph, without torch.

Standard operators only, opset 21. Written for speed where that changes no answer: Q, K and V are
one MatMul, the attention scale is part of Q's weights, position ids are a slice of their table
(written as a Gather of a Range, ONNX Runtime 1.31 and 1.32 make a session that fails on its first
run), and the mean is not divided by the token count, since L2 normalisation undoes any factor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.onnx.quantization.graph_writer import GraphWriter

Weights = Mapping[str, NDArray[Any]]
# added to the attention scores of padding: exp(-1e9) is exactly 0, so padding moves no bit of an
# answer
MASKED = -1e9


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The part of ``config.json`` that shapes the graph; names are Hugging Face's."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    layer_norm_eps: float

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a ``config.json``.

        Raises:
            ValueError: a model of another architecture or activation than is written here.
        """
        config = json.loads(path.read_text())
        found = (
            config["model_type"],
            config["hidden_act"],
            config.get("position_embedding_type", "absolute"),
        )
        if found != ("bert", "gelu", "absolute"):
            raise ValueError(
                f"{path}: only bert with gelu and absolute positions is written as ONNX "
                f"here, this is {' '.join(found)}."
            )
        return cls(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["num_attention_heads"],
            config["layer_norm_eps"],
        )


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A layer's activation: the graph computes ``name``, which is the network's value minus
    ``centre`` float32 [hidden_size].
    """

    name: str
    centre: NDArray[np.float32]


def encoder(
    config: BertConfig,
    weights: Weights,
    *,
    centres: Mapping[str, NDArray[np.float32]] | None = None,
    gelu: Literal["none", "tanh"] = "none",
) -> onnx.ModelProto:
    """Token ids to the normalised mean of the last layer.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` int64 [batch, seq]; output
    ``sentence_embedding`` float32 [batch, hidden_size], of length 1. The output of a
    LayerNormalization carries the name of its part in the checkpoint.

    Args:
        centres: for LayerNormalizations, a constant float32 [hidden_size] that is taken off their
            output and given back by the biases of all that reads it. It changes no answer; values
            around 0 round better to int8. The last one has none.
        gelu: ONNX's ``approximate`` attribute; ``tanh`` is faster and up to 5e-4 off.
    """
    writer = GraphWriter()
    write = _Encoder(writer, config, weights, centres or {}, gelu)
    mask = writer.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    masked = writer.node(
        "Mul",
        writer.node("Sub", writer.floats(1), writer.node("Unsqueeze", mask, writer.ints(1, 2))),
        writer.floats(MASKED),
    )
    hidden = write.embeddings()
    for layer in range(config.num_hidden_layers):
        hidden = write.layer(f"encoder.layer.{layer}", hidden, masked)
    kept = writer.node("Mul", hidden.name, writer.node("Unsqueeze", mask, writer.ints(2)))
    total = writer.node("ReduceSum", kept, writer.ints(1), keepdims=0)
    length = writer.node(
        "Max", writer.node("ReduceL2", total, writer.ints(1), keepdims=1), writer.floats(1e-12)
    )
    writer.node("Div", total, length, output="sentence_embedding")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info(
        "sentence_embedding", TensorProto.FLOAT, ["batch", config.hidden_size]
    )
    graph = helper.make_graph(
        writer.nodes, "bert", inputs, [output], list(writer.constants.values())
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model


class _Encoder:
    """The parts of the network, named as in the checkpoint."""

    def __init__(
        self,
        writer: GraphWriter,
        config: BertConfig,
        weights: Weights,
        centres: Mapping[str, NDArray[np.float32]],
        gelu: str,
    ) -> None:
        self._write = writer
        self._config = config
        self._weights = weights
        self._centres = centres
        self._gelu = gelu

    def embeddings(self) -> _Hidden:
        write, part = self._write, "embeddings"
        width = write.node("Shape", "input_ids", start=1, end=2)
        positions = write.node(
            "Slice",
            self._constant(f"{part}.position_embeddings.weight"),
            write.ints(0),
            width,
            write.ints(0),
        )
        words = write.node("Gather", self._constant(f"{part}.word_embeddings.weight"), "input_ids")
        types = write.node(
            "Gather", self._constant(f"{part}.token_type_embeddings.weight"), "token_type_ids"
        )
        return self._norm(
            f"{part}.LayerNorm", write.node("Add", write.node("Add", words, types), positions)
        )

    def layer(self, part: str, hidden: _Hidden, masked: str) -> _Hidden:
        """float32 [batch, seq, hidden_size] to the same."""
        attended = self._attention(f"{part}.attention.self", hidden, masked)
        hidden = self._residual(f"{part}.attention.output", attended, hidden)
        inner = self._write.node(
            "Gelu", self._linear([f"{part}.intermediate.dense"], hidden), approximate=self._gelu
        )
        return self._residual(f"{part}.output", inner, hidden)

    def _attention(self, part: str, hidden: _Hidden, masked: str) -> str:
        """Softmax(QKᵀ/√d)V for all heads."""
        write, heads, size = self._write, self._config.num_attention_heads, self._config.hidden_size
        scale = 1 / math.sqrt(size // heads)
        joined = self._linear(
            [f"{part}.query", f"{part}.key", f"{part}.value"], hidden, factors=(scale, 1, 1)
        )
        parted = write.node("Reshape", joined, write.ints(0, 0, 3, heads, size // heads))
        # [3, batch, heads, seq, size of a head]
        parted = write.node("Transpose", parted, perm=[2, 0, 3, 1, 4])
        queries, keys, values = (
            write.node("Gather", parted, write.constant(f"index {i}", i, np.int64), axis=0)
            for i in range(3)
        )
        scores = write.node(
            "Add",
            write.node("MatMul", queries, write.node("Transpose", keys, perm=[0, 1, 3, 2])),
            masked,
        )
        mixed = write.node("MatMul", write.node("Softmax", scores, axis=-1), values)
        return write.node(
            "Reshape", write.node("Transpose", mixed, perm=[0, 2, 1, 3]), write.ints(0, 0, size)
        )

    def _linear(
        self, parts: Sequence[str], hidden: _Hidden, *, factors: Sequence[float] = (1,)
    ) -> str:
        """The dense layers ``parts`` as one, each times its factor."""
        pairs = [
            (self._weights[f"{part}.weight"] * factor, self._weights[f"{part}.bias"] * factor)
            for part, factor in zip(parts, factors, strict=True)
        ]
        weight, bias = (
            np.concatenate([weight for weight, _ in pairs]),
            np.concatenate([bias for _, bias in pairs]),
        )
        return self._dense(parts[0], hidden.name, weight, bias + weight @ hidden.centre)

    def _residual(self, part: str, value: str, hidden: _Hidden) -> _Hidden:
        """LayerNorm(dense(value) + hidden)."""
        weight, bias = self._weights[f"{part}.dense.weight"], self._weights[f"{part}.dense.bias"]
        added = self._dense(f"{part}.dense", value, weight, bias + hidden.centre)
        return self._norm(f"{part}.LayerNorm", self._write.node("Add", added, hidden.name))

    def _dense(
        self, part: str, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        product = self._write.node(
            "MatMul", value, self._write.constant(f"{part}.weight", weight.T)
        )
        return self._write.node("Add", product, self._write.constant(f"{part}.bias", bias))

    def _norm(self, part: str, value: str) -> _Hidden:
        is_last = part == f"encoder.layer.{self._config.num_hidden_layers - 1}.output.LayerNorm"
        zeros = np.zeros(self._config.hidden_size, np.float32)
        centre = zeros if is_last else self._centres.get(part, zeros)
        beta = self._write.constant(f"{part}.bias", self._weights[f"{part}.bias"] - centre)
        inputs = value, self._constant(f"{part}.weight"), beta
        return _Hidden(
            self._write.node(
                "LayerNormalization",
                *inputs,
                output=part,
                axis=-1,
                epsilon=self._config.layer_norm_eps,
            ),
            centre,
        )

    def _constant(self, key: str) -> str:
        return self._write.constant(key, self._weights[key])

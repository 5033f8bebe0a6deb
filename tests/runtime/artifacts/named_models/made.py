"""Small models in the form in which a hub has them: a BERT of random weights with a head for each
task, its tokenizer and configuration; and a classifier of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from apps.build.bert import BertConfig, encoder

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 40
WORDS = [
    "the",
    "a",
    "quick",
    "brown",
    "fox",
    "jump",
    "##s",
    "over",
    "lazy",
    "dog",
    "ada",
    "lives",
    "in",
    "vienna",
    "and",
    "berlin",
    "what",
    "is",
    ".",
    "?",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
LAST = f"encoder.layer.{LAYERS - 1}.output.LayerNorm"

CONFIG = {
    "model_type": "bert",
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "hidden_size": WIDTH,
}

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Ada lives in Vienna and Berlin.",
    "fox",
    "What is a lazy dog? " * 12,
)
"""The last is longer than the model reads."""


def tokenizer() -> Tokenizer:
    """WordPiece of a few words, in small letters, with BERT's template."""
    made = Tokenizer(
        models.WordPiece({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def _weights() -> dict[str, Any]:
    random = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, WIDTH)
        for name, rows in (("word", len(VOCABULARY)), ("position", POSITIONS), ("token_type", 2))
    }
    norms = ["embeddings.LayerNorm"]
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}"
        dense = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        dense |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }
        shapes |= {f"{layer}.{name}.weight": shape for name, shape in dense.items()}
        shapes |= {f"{layer}.{name}.bias": shape[:1] for name, shape in dense.items()}
        norms += [f"{layer}.{part}output.LayerNorm" for part in ("attention.", "")]
    shapes |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    return {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def cut(model: onnx.ModelProto, value: str, name: str, width: int) -> onnx.ModelProto:
    """The part of a model that makes ``value`` [batch, seq, width], as its one output ``name``."""
    needed, nodes = {value}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
    nodes.append(helper.make_node("Identity", [value], [name]))
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "seq", width])
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(nodes, "part", list(model.graph.input), [output], weights)
    return helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )


@cache
def _encoder() -> bytes:
    made = encoder(BertConfig(LAYERS, WIDTH, HEADS, 1e-12), _weights())
    content: bytes = made.SerializeToString()
    return content


def bert(head: str = "", labels: int = 0) -> bytes:
    """The model: ``last_hidden_state``; with a head ``sequence`` or ``token``, ``logits``."""
    model = cut(onnx.ModelProto.FromString(_encoder()), LAST, "last_hidden_state", WIDTH)
    if head:
        random = np.random.default_rng(labels)
        weight = random.normal(0, 1.0, (WIDTH, labels)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, "head"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(0), "first"))
        source = "last_hidden_state"
        if head == "sequence":
            model.graph.node.append(helper.make_node("Gather", [source, "first"], ["cls"], axis=1))
            source = "cls"
        model.graph.node.append(helper.make_node("MatMul", [source, "head"], ["logits"]))
        dims = ["batch", labels] if head == "sequence" else ["batch", "seq", labels]
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, dims))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def whole_sentence_model() -> bytes:
    """The model as sentence-transformers' export has it, with a vector of the whole text."""
    model = onnx.ModelProto.FromString(bert())
    node = helper.make_node("ReduceMean", ["last_hidden_state"], ["mean"], axes=[1], keepdims=0)
    model.graph.node.extend([node, helper.make_node("Identity", ["mean"], ["sentence_embedding"])])
    output = helper.make_tensor_value_info(
        "sentence_embedding", TensorProto.FLOAT, ["batch", WIDTH]
    )
    model.graph.output.append(output)
    content: bytes = model.SerializeToString()
    return content


def text_files(head: str = "", labels: tuple[str, ...] = (), **config: Any) -> dict[str, bytes]:
    """A repository's files."""
    named = {"id2label": {str(at): label for at, label in enumerate(labels)}} if labels else {}
    return {
        "README.md": b"# A tiny model\n",
        "config.json": _json({**CONFIG, **named, **config}),
        "tokenizer.json": tokenizer().to_str().encode(),
        "onnx/model.onnx": bert(head, len(labels)),
    }


def sentence_files(pooling: str = "mean_tokens", *, normalize: bool = True) -> dict[str, bytes]:
    """A repository of sentence-transformers'."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    return text_files() | {
        "modules.json": _json(modules),
        "1_Pooling/config.json": _json({f"pooling_mode_{pooling}": True}),
        "sentence_bert_config.json": _json({"max_seq_length": 16, "do_lower_case": False}),
    }


PICTURE = {
    "do_resize": True,
    "size": {"shortest_edge": 12},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 8, "width": 8},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.5],
}


def picture_files(labels: tuple[str, ...], **preparation: Any) -> dict[str, bytes]:
    """A repository of a classifier of pictures of 8 by 8 pixels."""
    weight = np.random.default_rng(3).normal(0, 0.2, (3 * 8 * 8, len(labels))).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(labels)])],
        [numpy_helper.from_array(weight, "head")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return {
        "config.json": _json({"id2label": {str(at): label for at, label in enumerate(labels)}}),
        "preprocessor_config.json": _json({**PICTURE, **preparation}),
        "onnx/model.onnx": model.SerializeToString(),
    }


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


def write(files: Mapping[str, bytes], folder: Any) -> None:
    """The files in a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)

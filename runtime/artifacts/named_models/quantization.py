"""The int8 form of a model by name: its products in int8, rounded row by row, and its table of
words; accepted only if what the task makes of its answers is close to what it makes of the float
model's, and does not depend on batch-mates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.artifacts.named_models.expansion import expand_model
from runtime.artifacts.named_models.repositories import (
    INT8,
    describe_quantization,
    is_quantized,
    quantization_stamp,
)
from runtime.declaration.function_spec import DeclaredSpec, StageSpec
from runtime.errors import StoreError
from runtime.onnx.model_file import weights_of
from runtime.onnx.model_info import inspect_model
from runtime.settings import Settings
from runtime.system.files import hold_lock, make_temporary_folder, os_error_message, put_in_place

Values = NDArray[np.float64]

MAX_BYTES: Final = 1_900_000_000
"""Of a float model: above two gigabytes a model is no single message of protobuf's."""


def quantize_model(
    spec: DeclaredSpec, settings: Settings, say: Callable[[str], None]
) -> Path | None:
    """Write the int8 form of a function's model beside it, unless it is there; returns it if it was
    made.

    Args:
        spec: declares ``model``, which is on this machine, and ``quantize: int8``.
        say: gets what was measured.

    Raises:
        StoreError: the task has no int8 form, or its answers are too far from the float model's.
    """
    if spec.task == "image-classification":
        raise StoreError(
            f"{spec.model}: int8 is for models that read text; delete `quantize` of {spec.name!r}."
        )
    graph = expand_model(spec.model_copy(update={"quantize": None}), settings, inspect_model).graph
    stages = {stage.stage: stage for stage in graph}
    model = settings.root / str(stages["model"].onnx)
    if is_quantized(model.parent, model.name, settings.models):
        return None
    if sum(file.stat().st_size for file in (model, *weights_of(model))) > MAX_BYTES:
        raise StoreError(
            f"{model} has more than {MAX_BYTES} bytes with its weights, too many to be made int8."
            f" Delete `quantize` of {spec.name!r}."
        )
    say("making the int8 form")
    target = model.with_name(model.name.removesuffix(".onnx") + INT8)
    import onnx  # heavy, and only pulling needs it

    from runtime.onnx.quantization.acceptance import accept
    from runtime.onnx.quantization.rowwise import quantize_rows

    reference = onnx.load(str(model))
    quantized = quantize_rows(reference, asymmetric=lambda weight: True, embeddings=True)
    output = _output_of(graph[-1], [value.name for value in reference.graph.output])
    rows = _rows(stages["tokenize"], [value.name for value in reference.graph.input], settings)
    verdict = accept(
        _with_output(quantized, output), _with_output(reference, output), rows, _answer(graph[-1])
    )
    say(str(verdict))
    models = settings.models
    with os_error_message(target), hold_lock(models), make_temporary_folder(models) as partial:
        onnx.save(quantized, str(partial / target.name))
        put_in_place(partial / target.name, target)
        stamp = partial / "stamp.json"
        stamp.write_text(json.dumps(describe_quantization(model, models)))
        put_in_place(stamp, quantization_stamp(model))
    return target


def _output_of(last: StageSpec, outputs: list[str]) -> str:
    """The output of the model that the last stage reads."""
    mapped = [name for name in last.inputs.values() if name in outputs]
    return mapped[0] if mapped else "logits"


def _with_output(model: Any, name: str) -> Any:
    """The same model, with that output alone."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [value for value in copy.graph.output if value.name == name]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    return copy


def _rows(tokenize: StageSpec, inputs: list[str], settings: Settings) -> list[Mapping[str, Any]]:
    """The texts of the gate, each beside the next where the model reads pairs, as the inputs of the
    model.
    """
    from tokenizers import Tokenizer

    from runtime.onnx.quantization.acceptance import PADDING, TEXTS

    tokenizer = Tokenizer.from_file(str(settings.root / tokenize.with_["tokenizer"]))
    tokenizer.no_padding()
    # padded by so much, a row must still fit into the model's positions
    tokenizer.enable_truncation(max(8, tokenize.with_["max_length"] - PADDING))
    texts = TEXTS.read_text(encoding="utf-8").splitlines()
    is_pair = str(tokenize.python).partition(":")[2].startswith("TokenizePair")
    given: list[Any] = list(zip(texts, [*texts[1:], texts[0]], strict=True)) if is_pair else texts
    rows: list[Mapping[str, Any]] = []
    for encoding in tokenizer.encode_batch(given):
        row = {
            "input_ids": np.asarray(encoding.ids, np.int64),
            "attention_mask": np.ones(len(encoding.ids), np.int64),
            "token_type_ids": np.asarray(encoding.type_ids, np.int64),
        }
        rows.append({name: values for name, values in row.items() if name in inputs})
    return rows


def _answer(last: StageSpec) -> Callable[[Values], Values]:
    """What the last stage makes of a row's output, so that what is compared is the answer: a vector
    of length 1, or scores from 0 to 1.
    """
    kind, options = str(last.python).partition(":")[2], last.with_
    mode = options.get("mode", "mean")
    readers: Mapping[str, Callable[[Values], Values]] = {
        "Pool": lambda hidden: _unit(_POOLS[mode](hidden)),
        "Pooled": _unit,
        "Score": lambda logits: _both(_sigmoid(logits)),
        "Classify": _softmax if options.get("scores") == "softmax" else _sigmoid_pairs,
        "Gather": lambda logits: np.ravel(_softmax(logits)),
    }
    return readers[kind]


_POOLS: Final[Mapping[str, Callable[[Values], Values]]] = {
    "mean": lambda hidden: np.asarray(hidden.mean(axis=0)),
    "max": lambda hidden: np.asarray(hidden.max(axis=0)),
    "cls": lambda hidden: hidden[0],
    "lasttoken": lambda hidden: hidden[-1],
}


def _unit(vector: Values) -> Values:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def _softmax(logits: Values) -> Values:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Values) -> Values:
    return np.asarray((1 + np.tanh(logits / 2)) / 2)  # 1 / (1 + exp(-x))


def _both(scores: Values) -> Values:
    """Each score and what is left to 1, so that the direction says how large it is."""
    return np.concatenate([scores, 1 - scores])


def _sigmoid_pairs(logits: Values) -> Values:
    return _both(_sigmoid(logits))

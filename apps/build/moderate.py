"""The profanity classifier of alt-profanity-check as one model: texts in, a score each out.

The package holds a TF-IDF vectorizer and a calibrated linear classifier as joblib files, which are
pickles: they are read here, from a wheel whose sha256 was checked, and by nothing that serves.
``build`` compares the model with scikit-learn's own answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import StringTensorType
from sklearn.pipeline import make_pipeline

from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import run_unbatched

CLOSE: Final = 1e-6
TEXTS: Final = (
    "You are a wonderful person",
    "go to hell, you scum",
    "I will ship the parcel on Monday",
    "what a stupid idiot",
    "This shit is broken",
    "The Quick brown FOX",
    "café déjà vu you're an ASSHOLE",
    "",
    "42",
)


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Writes ``model.onnx``: ``text`` BYTES [texts] to ``score`` float32 [texts], from 0 to 1.

    Args:
        source: folder with ``vectorizer.joblib`` and ``model.joblib``.

    Raises:
        StoreError: its answers are not scikit-learn's.
    """
    vectorizer, classifier = (
        joblib.load(source / f"{name}.joblib") for name in ("vectorizer", "model")
    )
    model = _scores(vectorizer, classifier)
    ours = run_unbatched(model, {"text": np.array(TEXTS, object)})["score"]
    difference = float(
        np.abs(ours - classifier.predict_proba(vectorizer.transform(TEXTS))[:, 1]).max()
    )
    verdict = f"{len(vectorizer.vocabulary_):,} words; {difference:.1e} from scikit-learn at most"
    if difference > CLOSE:
        raise StoreError(
            f"moderate: {verdict}; at most {CLOSE:g} is allowed. Use the libraries of "
            "requirements.lock."
        )
    say(verdict)
    onnx.save(model, str(out / "model.onnx"))


def _scores(vectorizer: Any, classifier: Any) -> onnx.ModelProto:
    converted: onnx.ModelProto = convert_sklearn(
        make_pipeline(vectorizer, classifier),
        initial_types=[("column", StringTensorType([None, 1]))],
        options={id(classifier): {"zipmap": False}, id(vectorizer): {"tokenexp": "[a-zA-Z0-9_]+"}},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    for node in converted.graph.node:
        if node.op_type == "StringNormalizer":
            # en_US.UTF-8, the default, is missing on many machines
            _set(node.attribute, helper.make_attribute("locale", "C"))
    converted.graph.node.insert(
        0, helper.make_node("Unsqueeze", ["text", "one"], ["column"], name="column")
    )
    converted.graph.node.append(
        helper.make_node(
            "Gather", ["probabilities", "one"], ["column of scores"], name="second", axis=1
        )
    )
    converted.graph.node.append(
        helper.make_node("Squeeze", ["column of scores", "one"], ["score"], name="score")
    )
    converted.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    del converted.graph.input[:], converted.graph.output[:]
    converted.graph.input.append(
        helper.make_tensor_value_info("text", TensorProto.STRING, ["texts"])
    )
    converted.graph.output.append(
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["texts"])
    )
    return converted


def _set(attributes: Any, wanted: onnx.AttributeProto) -> None:
    kept: Sequence[onnx.AttributeProto] = [each for each in attributes if each.name != wanted.name]
    del attributes[:]
    attributes.extend([*kept, wanted])

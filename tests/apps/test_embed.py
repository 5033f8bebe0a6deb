"""The embedding function's own stages, and the model behind them."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from apps.build.minilm import TEXTS
from apps.embed import Tokenize, answer
from runtime.graph.graph import Port
from runtime.graph.python_stages import signature
from runtime.graph.request_fields import RowValidator
from runtime.onnx.quantization.acceptance import measure
from wakeful import RequestError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def tokenize(models):
    return Tokenize(models / "minilm" / "tokenizer.json")


@pytest.fixture(scope="session")
def embed(models, tokenize):
    """Texts to embeddings float32 [texts, 384], each text alone."""
    session = ort.InferenceSession(
        str(models / "minilm" / "model.int8.onnx"), providers=["CPUExecutionProvider"]
    )

    def run(*texts):
        columns = tokenize(texts)
        rows = [
            {name: column[row][None] for name, column in columns.items() if name != "tokens"}
            for row in range(len(texts))
        ]
        return np.concatenate([session.run(None, feed)[0] for feed in rows])

    return run


def test_a_text_becomes_ids_of_its_own_length(tokenize):
    """Three columns of int64, unpadded, between [CLS] and [SEP]."""
    tokens = tokenize(["restock water", "ok"])
    assert [len(row) for row in tokens["input_ids"]] == [5, 3]  # rest ##ock water
    assert tokens["input_ids"][1].tolist() == [101, 7929, 102]
    assert tokens["attention_mask"][0].tolist() == [1] * 5
    assert tokens["token_type_ids"][0].tolist() == [0] * 5
    assert tokens.pop("tokens") == [5, 3]
    assert all(row.dtype == np.int64 for column in tokens.values() for row in column)


def test_a_long_text_is_cut(tokenize):
    """At 256 tokens, the last one [SEP]."""
    ids = tokenize(["water " * 1000])["input_ids"][0]
    assert (len(ids), ids[-1]) == (256, 102)


def test_of_an_endless_text_the_beginning_is_tokenized(tokenize):
    """A million characters took a second; the tokens that count are before the 16,384th."""
    text = "water " * 16_000
    assert (
        tokenize([text])["input_ids"][0].tolist()
        == tokenize([text[:5000]])["input_ids"][0].tolist()
    )
    began = time.process_time()
    tokenize(["x" * 99_999] * 8)
    assert time.process_time() - began < 0.3


def test_the_field_is_bounded(tokenize):
    """A text that is too long is refused before it is tokenized."""
    (text,) = signature.read_signature(tokenize).params
    validator = RowValidator("embed", {"text": Port("text", text.type, text.annotation)})
    assert validator.validate({"text": "x" * 100_000})
    with pytest.raises(RequestError, match="100000"):
        validator.validate({"text": "x" * 100_001})


def test_an_empty_text_is_a_text(tokenize):
    """Two special tokens."""
    assert tokenize([""])["input_ids"][0].tolist() == [101, 102]


def test_the_schema(tokenize):
    """One field, three values for the model, 384 numbers out."""
    taken, given = signature.read_signature(tokenize), signature.read_signature(answer)
    assert [param.name for param in taken.params] == ["text"]
    assert taken.takes_rows
    assert list(taken.gives) == ["input_ids", "attention_mask", "token_type_ids", "tokens"]
    assert given.gives["embedding"].shape == (384,)


def test_close_texts_are_close(embed):
    """Known pairs, within 0.02 of what the original model says of them."""
    eat, meal, stocks = embed(
        "A man is eating food.", "Someone is having a meal.", "The stock market fell sharply."
    )
    assert eat @ eat == pytest.approx(1, abs=1e-5)
    assert eat @ meal == pytest.approx(0.69, abs=0.02)
    assert abs(eat @ stocks) < 0.1


def test_the_served_model_is_close_and_alone(models):
    """Within 0.99 of the float model on every text of the list, whatever is next to it."""
    verdict = measure(*_models(models), _rows(models))
    assert verdict.is_accepted, str(verdict)


def test_a_batch_wide_scale_is_refused(models, tmp_path):
    """ONNX Runtime's own quantize_dynamic, which takes one scale for the whole batch, does not
    pass.
    """
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(
        str(models / "minilm" / "model.fp32.onnx"),
        str(tmp_path / "model.onnx"),
        op_types_to_quantize=["MatMul"],
    )
    verdict = measure(
        onnx.load(str(tmp_path / "model.onnx")), _models(models)[1], _rows(models)[:16]
    )
    assert verdict.batch_max > 0.005
    assert verdict.padding_max > 0.001
    assert not verdict.is_accepted


def _models(models):
    return [onnx.load(str(models / "minilm" / f"model.{kind}.onnx")) for kind in ("int8", "fp32")]


def _rows(models):
    tokenizer = Tokenizer.from_file(str(models / "minilm" / "tokenizer.json"))
    ids = [
        np.array(encoding.ids)
        for encoding in tokenizer.encode_batch(TEXTS.read_text().splitlines())
    ]
    return [
        {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        for row in ids
    ]

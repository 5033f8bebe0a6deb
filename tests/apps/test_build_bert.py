"""BERT as ONNX, against the same network written in numpy."""

from __future__ import annotations

import json
import math

import numpy as np
import onnxruntime as ort
import pytest

from apps.build.bert import BertConfig, encoder

CONFIG = BertConfig(
    num_hidden_layers=2, hidden_size=16, num_attention_heads=4, layer_norm_eps=1e-12
)
WORDS, POSITIONS, INNER = 50, 12, 32
NORMS = ["embeddings.LayerNorm"] + [
    f"encoder.layer.{n}.{part}output.LayerNorm" for n in range(2) for part in ("attention.", "")
]


@pytest.fixture(scope="module")
def weights():
    """Random ones, named and shaped as in a checkpoint."""
    random = np.random.default_rng(0)
    size = CONFIG.hidden_size
    shapes = {
        f"embeddings.{name}_embeddings.weight": (rows, size)
        for name, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2))
    }
    for n in range(CONFIG.num_hidden_layers):
        dense = {f"attention.self.{name}": (size, size) for name in ("query", "key", "value")}
        dense |= {
            "attention.output.dense": (size, size),
            "intermediate.dense": (INNER, size),
            "output.dense": (size, INNER),
        }
        shapes |= {f"encoder.layer.{n}.{name}.weight": shape for name, shape in dense.items()}
        shapes |= {f"encoder.layer.{n}.{name}.bias": shape[:1] for name, shape in dense.items()}
    shapes |= {f"{norm}.{part}": (size,) for norm in NORMS for part in ("weight", "bias")}
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def oracle(weights, ids):
    """One text, as the paper has it."""
    heads, size = CONFIG.num_attention_heads, CONFIG.hidden_size

    def dense(part, x):
        return x @ weights[f"{part}.weight"].T + weights[f"{part}.bias"]

    def norm(part, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
            x.var(-1, keepdims=True) + CONFIG.layer_norm_eps
        )
        return x * weights[f"{part}.weight"] + weights[f"{part}.bias"]

    tables = [
        weights[f"embeddings.{name}_embeddings.weight"].astype(np.float64)
        for name in ("word", "position", "token_type")
    ]
    h = norm("embeddings.LayerNorm", tables[0][ids] + tables[1][: len(ids)] + tables[2][0])
    for n in range(CONFIG.num_hidden_layers):
        layer = f"encoder.layer.{n}"
        parts = [dense(f"{layer}.attention.self.{name}", h) for name in ("query", "key", "value")]
        q, k, v = (part.reshape(-1, heads, size // heads).swapaxes(0, 1) for part in parts)
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(size // heads))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(-1, size)
        h = norm(
            f"{layer}.attention.output.LayerNorm",
            dense(f"{layer}.attention.output.dense", mixed) + h,
        )
        inner = dense(f"{layer}.intermediate.dense", h)
        inner = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        h = norm(f"{layer}.output.LayerNorm", dense(f"{layer}.output.dense", inner) + h)
    mean = h.mean(0)
    return mean / np.linalg.norm(mean)


def run(model, rows):
    """Padded to the longest row."""
    width = max(map(len, rows))
    ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    for n, row in enumerate(rows):
        ids[n, : len(row)], mask[n, : len(row)] = row, 1
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(
        None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    )[0]


def test_it_computes_the_network(weights):
    """Alone, and padded next to longer rows."""
    rows = [[3], [7, 1, 4], [9, 9, 30, 2, 5, 11, 49]]
    wanted = np.stack([oracle(weights, row) for row in rows])
    model = encoder(CONFIG, weights)
    assert np.abs(run(model, rows) - wanted).max() < 1e-5
    assert np.abs(run(model, rows[:1]) - wanted[:1]).max() < 1e-5


def test_centres_change_no_answer(weights):
    """What is taken off a norm's output, the biases give back; the last norm keeps its own."""
    random = np.random.default_rng(1)
    centres = {norm: random.normal(size=CONFIG.hidden_size).astype(np.float32) for norm in NORMS}
    rows = [[7, 1, 4], [9, 9, 30, 2, 5]]
    assert (
        np.abs(
            run(encoder(CONFIG, weights, centres=centres), rows)
            - run(encoder(CONFIG, weights), rows)
        ).max()
        < 1e-5
    )


def test_the_fast_gelu_is_near(weights):
    """And not the same."""
    difference = np.abs(
        run(encoder(CONFIG, weights, gelu="tanh"), [[7, 1, 4]])
        - run(encoder(CONFIG, weights), [[7, 1, 4]])
    ).max()
    assert 0 < difference < 2e-3


def test_another_architecture_is_refused(tmp_path):
    """Before any weight is read."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "roberta", "hidden_act": "gelu"}))
    with pytest.raises(ValueError, match="only bert with gelu"):
        BertConfig.read(path)

"""The model of the shipped `embed`, for servers whose environments have no Wakeful."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = os.environ.get("MINILM", "models/minilm")


class MiniLM:
    """Texts to embeddings, one run for all texts, padded to the longest; one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            f"{FOLDER}/model.int8.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(f"{FOLDER}/tokenizer.json")
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def embed(self, texts: list[str]) -> list[list[float]]:
        """384 numbers for each text."""
        encodings = self._tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.array([one.attention_mask for one in encodings], np.int64),
            "token_type_ids": np.zeros_like(ids),
        }
        wanted = {tensor.name for tensor in self._session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in wanted}
        found: list[list[float]] = self._session.run(None, feeds)[0].tolist()
        return found

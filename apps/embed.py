"""Sentence embeddings: a text in, 384 numbers of length 1 out; the closer two texts in meaning, the
larger their dot product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer

from wakeful import Rows, Shape

CHARACTERS = 64
"""Of a text, for each token that is read of it, are tokenized: a token of plain text has four, and
a million characters take a second.
"""

Text = Annotated[
    str, Field(max_length=100_000, description="A text, in English; its first 256 tokens count.")
]
TokenIds = Annotated[NDArray[np.int64], Shape(-1)]
Embedding = Annotated[NDArray[np.float32], Shape(384)]


class Tokens(TypedDict):
    """Inputs of a BERT model, one array of a text's own length a row; the batcher pads. And that
    length.
    """

    input_ids: Rows[TokenIds]
    attention_mask: Rows[TokenIds]
    token_type_ids: Rows[TokenIds]
    tokens: Rows[int]


class Tokenize:
    """Texts to token ids.

    Args:
        tokenizer: a ``tokenizer.json``.
        max_length: tokens after which a text is cut, special tokens included; 256 is what MiniLM
            was trained with.
    """

    def __init__(self, tokenizer: Path, max_length: int = 256) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._most = CHARACTERS * max_length

    def __call__(self, text: Rows[Text]) -> Tokens:
        # Without offsets, a fifth faster than encode_batch; lets go of the GIL, so two workers
        # tokenize at once.
        ids = [
            np.array(encoding.ids, np.int64)
            for encoding in self._tokenizer.encode_batch_fast([one[: self._most] for one in text])
        ]
        return Tokens(
            input_ids=ids,
            attention_mask=[np.ones_like(row) for row in ids],
            token_type_ids=[np.zeros_like(row) for row in ids],
            tokens=[len(row) for row in ids],
        )


class Answer(TypedDict):
    """What the caller gets; ``tokens`` are those that the model read, special ones included."""

    embedding: Embedding
    tokens: int


def answer(sentence_embedding: Embedding, tokens: int) -> Answer:
    """The model's output under the name callers know."""
    return {"embedding": sentence_embedding, "tokens": tokens}

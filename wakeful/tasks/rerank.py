"""Task ``rerank``: a query and a document in, how well the one answers the other out.

    tokenize ─▶ model (a cross-encoder) ─▶ score

A pair is one row. Query and document are read together, so no vector of a document can be kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Rows, Shape
from wakeful.tasks.text import (
    CHARACTERS,
    Text,
    Tokens,
    TypedTokens,
    load_tokenizer,
    tokens_of,
    without_types,
)
from wakeful.tasks.text_classification import sigmoid

Logits = Annotated[NDArray[np.float32], Shape(1)]


class Scored(TypedDict):
    """What the caller gets: the higher the score, the better the document."""

    score: float
    tokens: int


class TokenizePairTyped:
    """Pairs to token ids and segments: the query's tokens are of segment 0, the document's of 1,
    as the tokenizer's template has it. Of a pair that is too long the longer text is cut.

    Args:
        tokenizer: a ``tokenizer.json``.
        max_length: tokens after which a pair is cut.
    """

    def __init__(self, tokenizer: Path, max_length: int) -> None:
        self._tokenizer = load_tokenizer(tokenizer, max_length)
        self._most = CHARACTERS * max_length

    def encode(self, query: Rows[str], document: Rows[str]) -> TypedTokens:
        """Return the tokens of each pair, cut where the model ends."""
        pairs = [
            (one[: self._most], other[: self._most])
            for one, other in zip(query, document, strict=True)
        ]
        return tokens_of(self._tokenizer.encode_batch_fast(pairs), "document")

    def __call__(self, query: Rows[Text], document: Rows[Text]) -> TypedTokens:
        return self.encode(query, document)


class TokenizePair(TokenizePairTyped):
    """Pairs to token ids, for models that take no segments."""

    def __call__(  # type: ignore[override]  # fewer columns
        self, query: Rows[Text], document: Rows[Text]
    ) -> Tokens:
        return without_types(self.encode(query, document))


class Score:
    """The model's one number to the score.

    Args:
        activation: ``sigmoid`` makes it a score from 0 to 1, ``identity`` leaves it.
    """

    def __init__(self, activation: Literal["sigmoid", "identity"] = "sigmoid") -> None:
        self._activation = activation

    def __call__(self, logits: Logits, tokens: int) -> Scored:
        numbers = sigmoid(logits) if self._activation == "sigmoid" else logits
        return {"score": float(numbers[0]), "tokens": tokens}

"""Texts to what a transformer model takes: token ids, by the ``tokenizer.json`` of its repository.

Each row has the length of its own text; the model's stage declares ``pad``, and the batcher fills
rows up where they share a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Encoding, Tokenizer

from wakeful import RequestError, Rows, Shape

CHARACTERS = 64
"""Of a text, for each token that the model reads of it, are tokenized: a token of plain text has
four, and a million characters take a second.
"""

Text = Annotated[
    str, Field(max_length=100_000, description="A text; what the model reads of it counts.")
]
TokenIds = Annotated[NDArray[np.int64], Shape(-1)]


class Tokens(TypedDict):
    """One array of a text's own length a row, and that length, special tokens included."""

    input_ids: Rows[TokenIds]
    attention_mask: Rows[TokenIds]
    tokens: Rows[int]


class TypedTokens(Tokens):
    """And the segment of each token, 0 or 1, for models that take it."""

    token_type_ids: Rows[TokenIds]


def load_tokenizer(file: Path, max_length: int) -> Tokenizer:
    """A tokenizer that cuts at ``max_length`` tokens, special ones included, and never pads."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def tokens_of(encodings: list[Encoding], where: str = "") -> TypedTokens:
    """Tokenized rows as the arrays of a model.

    Args:
        where: the field of a text that must have tokens; empty: it may have none.

    Raises:
        RequestError: one without a token, as an empty text is to a tokenizer that adds none of its
            own: the mean of nothing is no number.
    """
    if where and not all(map(len, encodings)):  # each half of the batch comes again
        raise RequestError("it has no token for the model. Send some words.", where=where)
    ids = [np.array(encoding.ids, np.int64) for encoding in encodings]
    return TypedTokens(
        input_ids=ids,
        attention_mask=[np.ones_like(row) for row in ids],
        token_type_ids=[np.array(encoding.type_ids, np.int64) for encoding in encodings],
        tokens=[len(row) for row in ids],
    )


def without_types(tokens: TypedTokens) -> Tokens:
    """For a model that takes no segments."""
    return Tokens(
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        tokens=tokens["tokens"],
    )


class TokenizeTyped:
    """Texts to token ids and segments.

    Args:
        tokenizer: a ``tokenizer.json``.
        max_length: tokens after which a text is cut.
        lowercase: texts are made small letters first (``do_lower_case``).
    """

    def __init__(self, tokenizer: Path, max_length: int, lowercase: bool = False) -> None:
        self._tokenizer = load_tokenizer(tokenizer, max_length)
        self._most = CHARACTERS * max_length
        self._lowercase = lowercase

    def encode(self, text: Rows[str]) -> TypedTokens:
        """Return the tokens of each text, cut where the model ends."""
        texts = [one[: self._most] for one in text]
        if self._lowercase:
            texts = [one.lower() for one in texts]
        # lets go of the interpreter's lock, so two workers tokenize at once
        return tokens_of(self._tokenizer.encode_batch_fast(texts), "text")

    def __call__(self, text: Rows[Text]) -> TypedTokens:
        return self.encode(text)


class Tokenize(TokenizeTyped):
    """Texts to token ids, for models that take no segments."""

    def __call__(self, text: Rows[Text]) -> Tokens:  # type: ignore[override]  # fewer columns
        return without_types(self.encode(text))

"""Task ``token-classification``: a text in, the names, places and the like in it out.

    tokenize ─▶ model ─▶ gather

Neighbouring tokens of one label are one entity (the aggregation that transformers calls
``simple``). Of a long text the beginning is read, up to ``max_length`` tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Rows, Shape
from wakeful.tasks.text import CHARACTERS, Text, TokenIds, load_tokenizer, tokens_of
from wakeful.tasks.text_classification import softmax

Logits = Annotated[NDArray[np.float32], Shape(-1, -1)]
Spans = Annotated[NDArray[np.int64], Shape(-1, 2)]


class Entity(TypedDict):
    """``text[start:end]`` and what it is; the score is the mean of its tokens', 0 to 1."""

    label: str
    score: float
    start: int
    end: int
    text: str


class Entities(TypedDict):
    """What the caller gets, in the order of the text."""

    entities: list[Entity]
    tokens: int


class SpanTokens(TypedDict):
    """One array of a text's own length a row; ``spans`` has the first character of each token and
    the one behind its last, equal for special tokens.
    """

    input_ids: Rows[TokenIds]
    attention_mask: Rows[TokenIds]
    spans: Rows[Spans]
    tokens: Rows[int]


class TypedSpanTokens(SpanTokens):
    """And the segment of each token, for models that take it."""

    token_type_ids: Rows[TokenIds]


class TokenizeTyped:
    """Texts to token ids, segments, and where in the text each token stands.

    Args:
        tokenizer: a ``tokenizer.json``.
        max_length: tokens after which a text is cut.
    """

    def __init__(self, tokenizer: Path, max_length: int) -> None:
        self._tokenizer = load_tokenizer(tokenizer, max_length)
        self._most = CHARACTERS * max_length

    def encode(self, text: Rows[str]) -> TypedSpanTokens:
        """Return the tokens of each text, cut where the model ends."""
        encodings = self._tokenizer.encode_batch([one[: self._most] for one in text])
        spans = [np.array(encoding.offsets, np.int64).reshape(-1, 2) for encoding in encodings]
        for encoding, places in zip(encodings, spans, strict=True):
            places[np.array(encoding.special_tokens_mask, bool)] = 0
        return TypedSpanTokens(spans=spans, **tokens_of(encodings))

    def __call__(self, text: Rows[Text]) -> TypedSpanTokens:
        return self.encode(text)


class Tokenize(TokenizeTyped):
    """Texts to token ids and places, for models that take no segments."""

    def __call__(self, text: Rows[Text]) -> SpanTokens:  # type: ignore[override]  # fewer columns
        columns = self.encode(text)
        return SpanTokens(
            input_ids=columns["input_ids"],
            attention_mask=columns["attention_mask"],
            spans=columns["spans"],
            tokens=columns["tokens"],
        )


class Gather:
    """The model's numbers for each token, FP32 ``[tokens, labels]``, to entities.

    Args:
        labels: in the order of the model's numbers (``id2label`` of ``config.json``). ``B-PER``
            begins an entity ``PER``, ``I-PER`` goes on with it, and so does ``PER``.
        outside: the label of what is no entity.
    """

    def __init__(self, labels: list[str], outside: str = "O") -> None:
        self._labels = labels
        self._outside = outside

    def __call__(self, logits: Logits, spans: Spans, text: str, tokens: int) -> Entities:
        scores = softmax(logits)
        best = scores.argmax(axis=-1)
        found: list[tuple[str, int, int, list[float]]] = []
        for at, (start, end) in enumerate(spans.tolist()):
            if start == end:
                continue
            label = self._labels[best[at]]
            kind = label[2:] if label.startswith(("B-", "I-")) else label
            score = float(scores[at, best[at]])
            if not label.startswith("B-") and found and found[-1][0] == kind:
                _, begin, _, before = found[-1]
                found[-1] = (kind, begin, end, [*before, score])
            else:
                found.append((kind, start, end, [score]))
        entities = [
            Entity(label=kind, score=sum(of) / len(of), start=start, end=end, text=text[start:end])
            for kind, start, end, of in found
            if kind != self._outside
        ]
        return {"entities": entities, "tokens": tokens}

"""Functions of plain Python that promise tasks: what they answer is seen at a look."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from wakeful import RequestError, Rows, Shape

Vector = Annotated[NDArray[np.float32], Shape(3)]


SIZES: list[int] = []
"""Of the batches that ``embed`` was given."""


class EmbeddedRows(TypedDict):
    """Of a batch; a word is a token."""

    embedding: Rows[Vector]
    tokens: Rows[int]


def vector(text: str) -> list[float]:
    """How many vowels, consonants and other characters."""
    vowels = sum(letter in "aeiou" for letter in text)
    letters = sum(letter.isalpha() for letter in text)
    return [float(vowels), float(letters - vowels), float(len(text) - letters)]


def embed(text: Rows[str]) -> EmbeddedRows:
    """Rows that come together are seen together."""
    SIZES.append(len(text))
    return EmbeddedRows(
        embedding=[np.array(vector(one), np.float32) for one in text],
        tokens=[len(one.split()) for one in text],
    )


class Short(TypedDict):
    """As long as it was asked for; no tokens are told."""

    embedding: Annotated[NDArray[np.float32], Shape(-1)]


def shorten(text: str, dimensions: int = 3) -> Short:
    """The first numbers; refuses a text, as an author may."""
    if text == "refused":
        raise RequestError("this text is not taken.")
    return {"embedding": np.array(vector(text)[:dimensions], np.float32)}


class Ranked(TypedDict):
    """What a rerank gives."""

    score: float


def rank(query: str, document: str) -> Ranked:
    """How many words of the query the document has."""
    return {"score": float(len(set(query.split()) & set(document.split())))}


class Classified(TypedDict):
    """By label."""

    scores: dict[str, float]


def judge(text: str) -> Classified:
    """A shout is rude, half of one not yet."""
    rude = sum(letter.isupper() for letter in text) / max(1, len(text))
    return {"scores": {"rude": rude, "polite": 0.25}}


def declared(
    name: str, stage: str, task: str = "", *, part_of: str = "", **args: Any
) -> FunctionSpec:
    """A function of one of these stages; or a stage that was split off."""
    graph = [{"stage": "s", "python": f"{__name__}:{stage}"}]
    promised = {"task": task} if task else {}
    whole = {"graph": graph, **promised, **args}
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", whole)
    return spec.with_deployed(part_of=part_of)


def all_declared() -> list[FunctionSpec]:
    """One of each."""
    return [
        declared("vowels", "embed", "embedding"),
        declared("short", "shorten", "embedding"),
        declared("rank", "rank", "rerank"),
        declared("judge", "judge", "text-classification"),
        declared("plain", "rank"),
    ]

"""Task ``embedding``: a text in, a vector out; the closer two texts in meaning, the larger the
cosine of their vectors.

    prompt ─▶ tokenize (wakeful.tasks.text) ─▶ model ─▶ pool

What the model gives for each token becomes one vector as ``1_Pooling/config.json`` says, of length
1 where ``modules.json`` has a ``Normalize``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError, Shape
from wakeful.tasks.text import Text

Vector = Annotated[NDArray[np.float32], Shape(-1)]
TokenVectors = Annotated[NDArray[np.float32], Shape(-1, -1)]


class Embedded(TypedDict):
    """What the caller gets; ``tokens`` are those that the model read, special ones included."""

    embedding: Vector
    tokens: int


class Prompt:
    """Puts a prompt before the text, which the model was trained with.

    Args:
        prompts: by name (``prompts`` of ``config_sentence_transformers.json``).
        default: the name of the prompt for callers that name none; empty: none.
    """

    def __init__(self, prompts: dict[str, str], default: str = "") -> None:
        self._prompts = {"": "", **prompts}
        self._default = default

    def __call__(self, text: Text, prompt: str | None = None) -> str:
        name = self._default if prompt is None else prompt
        if name not in self._prompts:
            known = ", ".join(repr(known) for known in self._prompts if known)
            raise RequestError(f"there is no prompt {name!r}, only {known}.", where="prompt")
        return self._prompts[name] + text


def shorten(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length 1."""
    return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12))


class Pool:
    """The vectors of a text's tokens, FP32 ``[tokens, n]``, to the vector of the text.

    Args:
        mode: ``mean`` and ``max`` are over all tokens; ``cls`` takes the first, ``lasttoken`` the
            last.
        normalize: whether the vector gets length 1.
    """

    def __init__(
        self, mode: Literal["mean", "max", "cls", "lasttoken"] = "mean", normalize: bool = False
    ) -> None:
        self._mode = mode
        self._normalize = normalize

    def __call__(self, hidden: TokenVectors, tokens: int) -> Embedded:
        if self._mode == "mean":
            vector = hidden.mean(axis=0)
        elif self._mode == "max":
            vector = hidden.max(axis=0)
        else:
            vector = hidden[0 if self._mode == "cls" else -1]
        return {"embedding": shorten(vector) if self._normalize else vector, "tokens": tokens}


class Pooled:
    """For a model that pools by itself.

    Args:
        normalize: whether the vector gets length 1.
    """

    def __init__(self, normalize: bool = False) -> None:
        self._normalize = normalize

    def __call__(self, vector: Vector, tokens: int) -> Embedded:
        return {"embedding": shorten(vector) if self._normalize else vector, "tokens": tokens}

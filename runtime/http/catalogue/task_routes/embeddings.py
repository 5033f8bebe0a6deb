"""``/v1/embeddings``, in OpenAI's form: the task ``embedding``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from runtime.errors import RequestError
from runtime.http.catalogue.task_routes.forms import (
    Row,
    TaskCall,
    count_tokens,
    read_count,
    read_inputs,
    read_keys,
    read_model,
    read_text,
)

KEYS: Final = ("input", "model", "encoding_format", "dimensions", "user")
"""``user`` is for OpenAI's own use, and does not change an answer."""

FORMATS: Final = ("float", "base64")


def read_embeddings(data: Any) -> TaskCall:
    """Return what a request asks for.

    Raises:
        RequestError: what is wrong with it, and where.
    """
    keys = read_keys(data, KEYS)
    texts, places = read_inputs(keys)
    chosen = read_text(keys.get("encoding_format", "float"), "encoding_format")
    if chosen not in FORMATS:
        raise RequestError(f"{' or '.join(FORMATS)} is wanted.", where="encoding_format")
    read_text(keys.get("user", ""), "user")
    dimensions = read_count(keys["dimensions"], "dimensions") if "dimensions" in keys else None
    more = {} if dimensions is None else {"dimensions": dimensions}

    def answer(name: str, request_id: str, answers: Sequence[Row]) -> dict[str, Any]:
        vectors = [np.asarray(row["embedding"], np.float32).ravel() for row in answers]
        if dimensions is not None and any(len(vector) != dimensions for vector in vectors):
            raise dimensions_error(name)
        tokens = count_tokens(texts, answers)
        return {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _to_base64(vector) if chosen == "base64" else vector,
                }
                for index, vector in enumerate(vectors)
            ],
            "model": name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return TaskCall(read_model(keys), [{"text": text, **more} for text in texts], places, answer)


def dimensions_error(name: str) -> RequestError:
    """Return the error for a function whose embeddings have one length."""
    return RequestError(
        f"{name!r} gives embeddings of its own length alone; leave `dimensions` out.",
        where="dimensions",
    )


def _to_base64(vector: np.ndarray) -> str:
    """FP32, little-endian, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")

"""What kind of file some bytes are, by their beginning and end (Google's Magika): 214 kinds, from a
model that reads 2,048 of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Shape

BLOCK, PART, PADDING = 4096, 1024, 256
"""White space is skipped in so many bytes at either end; of what is left the model reads so many,
and this where there are none.
"""

LEAST: Final = 8  # fewer bytes say nothing to the model, which does not run for them

Content = Annotated[bytes, Field(description="A file, whole: its end is looked at too.")]
Ends = Annotated[NDArray[np.int32], Shape(2 * PART)]
Scores = Annotated[NDArray[np.float32], Shape(-1)]


class Looked(TypedDict):
    """The model's input; whether that is enough to ask it; and the kind if not."""

    ends: Ends
    is_enough: bool
    otherwise: str


class FileType(TypedDict):
    """What the caller gets."""

    label: str
    mime_type: str
    group: str
    description: str
    is_text: bool
    score: float


def look(content: Content) -> Looked:
    """Both ends without the white space around them."""
    begin = content[:BLOCK].lstrip()[:PART]
    end = content[-BLOCK:].rstrip()[-PART:]
    ends = np.full(2 * PART, PADDING, np.int32)
    ends[: len(begin)] = np.frombuffer(begin, np.uint8)
    ends[2 * PART - len(end) :] = np.frombuffer(end, np.uint8)
    return {"ends": ends, "is_enough": len(begin) >= LEAST, "otherwise": _of_few(content[:BLOCK])}


def _of_few(content: bytes) -> str:
    if not content:
        return "empty"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "unknown"
    return "txt"


class Name:
    """The likeliest kind, or only whether it is text where the model is not sure enough.

    Args:
        config: the model's labels, and the score from which each is believed.
        types: what is known of each label.
    """

    def __init__(self, config: Path, types: Path) -> None:
        read = json.loads(config.read_text(encoding="utf-8"))
        self._labels: list[str] = read["target_labels_space"]
        self._thresholds: dict[str, float] = read["thresholds"]
        self._threshold: float = read["medium_confidence_threshold"]
        self._instead: dict[str, str] = read["overwrite_map"]
        self._types = json.loads(types.read_text(encoding="utf-8"))

    def __call__(self, otherwise: str, target_label: Scores | None) -> FileType:
        if target_label is None:
            return self._of(otherwise, 1.0)
        best = int(target_label.argmax())
        label, score = self._labels[best], float(target_label[best])
        named = self._instead.get(label, label)
        if score < self._thresholds.get(label, self._threshold):
            named = "txt" if self._types[named]["is_text"] else "unknown"
        return self._of(named, score)

    def _of(self, label: str, score: float) -> FileType:
        known = self._types[label]
        return {
            "label": label,
            # a few have none of their own
            "mime_type": known["mime_type"] or "application/octet-stream",
            "group": known["group"],
            "description": known["description"],
            "is_text": known["is_text"],
            "score": round(score, 4),
        }

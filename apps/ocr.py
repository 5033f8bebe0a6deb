"""Text out of a picture: where lines of it are, what they say, and how sure that is; or the picture
with its lines marked (`highlight`). PP-OCR's models; upright lines only.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Annotated, Final, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apps.images import decode_sized, pixels_of
from apps.textlines import Box, Line, areas, cut, in_reading_order, onto
from wakeful import MediaType, RequestError, Shape, reserve

SHORTER: Final = 736
LONGER: Final = 1600
"""The detector sees a picture enlarged until its shorter side has that many pixels; never with more
than these on the longer.
"""

MOST_LINES: Final = 1024
"""Of a page, as many as a row may have elements: each takes 23 to 460 kB, and a picture of dots
could have 100,000.
"""

PEN: Final = np.array([255, 236, 96], np.uint8)
"""No colour gets lighter than this: paper becomes yellow, and ink stays what it is."""

QUICK: Final = 1
"""zlib's level of a PNG: what compresses better takes several times as long."""

Picture = Annotated[NDArray[np.uint8], Shape(-1, -1, 3)]
Text = Annotated[NDArray[np.float32], Shape(1, -1, -1)]
Characters = Annotated[NDArray[np.int64], Shape(-1)]
Certainties = Annotated[NDArray[np.float32], Shape(-1)]


Size = tuple[int, int]


class Page(TypedDict):
    """The picture, made smaller if it is very large; width and height of what was sent; and what
    the detector sees, with sides that are multiples of 32."""

    page: Picture
    size: Size
    scaled: Picture


class Found(TypedDict):
    """Lines in the order of reading: their place on the page, and what is seen there."""

    boxes: list[Box]
    lines: list[Line]


class Read(TypedDict):
    """One line; its box is left, top, right, bottom, in pixels of the picture as it is seen
    upright.
    """

    text: str
    box: list[int]
    confidence: float


class Answer(TypedDict):
    """What the caller gets."""

    lines: list[Read]


def page(image: bytes) -> Page:
    """The picture decoded, and scaled for the detector."""
    picture, size = decode_sized(image)
    ratio = min(max(1, SHORTER / min(size)), LONGER / max(size))
    width, height = (max(32, round(side * ratio / 32) * 32) for side in size)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return {"page": pixels_of(picture), "size": size, "scaled": pixels_of(scaled)}


def find(page: Picture, size: Size, text: Text) -> Found:
    """How likely each pixel is text, to lines."""
    picture, seen = Image.fromarray(page), (text.shape[2], text.shape[1])
    found = areas(text[0])
    if len(found) > MOST_LINES:
        raise RequestError(
            f"the picture has {len(found)} lines, {MOST_LINES} at most are read. Cut it into "
            "parts.",
            where="image",
        )
    boxes = in_reading_order([onto(box, seen=seen, size=picture.size) for box in found])
    lines = [cut(picture, box) for box in boxes]
    return {"boxes": [onto(box, seen=picture.size, size=size) for box in boxes], "lines": lines}


def mark(page: Picture, text: Text) -> Annotated[bytes, MediaType("image/png")]:
    """The picture with what is text in it marked, as by a pen."""
    reserve(2 * page.nbytes)  # a copy to mark, and at most as much of PNG
    marked, (height, width) = page.copy(), page.shape[:2]
    for box in areas(text[0]):
        edges = onto(box, seen=(text.shape[2], text.shape[1]), size=(width, height))
        left, top, right, bottom = map(round, edges)
        line = marked[top:bottom, left:right]
        np.minimum(line, PEN, out=line)
    written = BytesIO()
    Image.fromarray(marked).save(written, "PNG", compress_level=QUICK)
    return written.getvalue()


class Spell:
    """What the recogniser saw at each step along the lines, as text: the same character in a row is
    one, and a step may show none.

    Args:
        alphabet: a character a line, in the order of the recogniser's numbers; number 0 is none.
        min_confidence: lines that are read with less are left out.
    """

    def __init__(self, alphabet: Path, min_confidence: float = 0.5) -> None:
        self._alphabet = alphabet.read_text(encoding="utf-8").split("\n")
        self._min_confidence = min_confidence

    def __call__(
        self, boxes: list[Box], characters: list[Characters], certainties: list[Certainties]
    ) -> Answer:
        read = [self._read(*line) for line in zip(boxes, characters, certainties, strict=True)]
        return {
            "lines": [
                line
                for line in read
                if line["text"].strip() and line["confidence"] >= self._min_confidence
            ]
        }

    def _read(self, box: Box, characters: Characters, certainties: Certainties) -> Read:
        new = (characters != 0) & (np.diff(characters, prepend=0) != 0)
        text = "".join(self._alphabet[at] for at in characters[new])
        confidence = round(float(certainties[new].mean()), 4) if text else 0.0
        return {"text": text, "box": [round(edge) for edge in box], "confidence": confidence}

"""Lines of text in a picture, from what a detector says of each pixel: boxes, in the order of
reading, and cut out at one height.
"""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apps.areas import connected
from wakeful import Shape

HEIGHT: Final = 48
STEP: Final = 160
"""Widths of lines are filled up to a multiple of this: lines of like length are of one shape then,
and only such share a run, so that what is read in a line does not hang on its company."""

WIDEST: Final = 3200
"""A line that would be wider, 66 times its height, is squeezed."""

TEXT: Final = 0.3
MEAN: Final = 0.5
LEAST: Final = 10
GROWN: Final = 1.6
"""PP-OCR's own values: a pixel is text above the first, an area of them above the second on
average, and from so many pixels on; and what is marked is the core of the letters, so that boxes
are grown by this ratio of area to circumference."""

GREY: Final = 127

Line = Annotated[NDArray[np.uint8], Shape(HEIGHT, -1, 3)]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def areas(text: NDArray[np.float32]) -> list[Box]:
    """Boxes around what is text in float32 [height, width], 0 to 1; they may reach beyond its
    edges.
    """
    found = connected(text, TEXT)
    boxes = found.boxes[(found.sizes >= LEAST) & (found.means >= MEAN)]
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    more = widths * heights * GROWN / (2 * (widths + heights))
    grown = boxes + more[:, None] * [-1, -1, 1, 1]
    return [(left, top, right, bottom) for left, top, right, bottom in grown.tolist()]


def onto(box: Box, *, seen: tuple[int, int], size: tuple[int, int]) -> Box:
    """A box of the picture as the detector saw it, ``seen`` (width, height), on the picture of
    ``size``.
    """
    scale = np.divide(size, seen)
    left, top, right, bottom = np.clip(
        np.multiply(box, [*scale, *scale]), 0, [*size, *size]
    ).tolist()
    return left, top, right, bottom


def in_reading_order(boxes: list[Box]) -> list[Box]:
    """Top to bottom; what has its middle beside the first of a row is of that row, and a row goes
    from left to right.
    """
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1]):
        if rows and (box[1] + box[3]) / 2 < rows[-1][0][3]:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row)]


def cut(picture: Image.Image, box: Box) -> Line:
    """What the box shows, uint8 [48, width, 3], filled up with grey on the right."""
    left, top, right, bottom = box
    width = max(1, min(WIDEST, round(HEIGHT * (right - left) / (bottom - top))))
    line = np.full((HEIGHT, -(-width // STEP) * STEP, 3), GREY, np.uint8)
    line[:, :width] = np.asarray(
        picture.resize((width, HEIGHT), Image.Resampling.BILINEAR, box=box)
    )
    return line

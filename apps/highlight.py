"""A picture with its lines of text marked, as by a pen: what the detector of `ocr` finds, to be
looked at. The answer is a PNG file.
"""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, Final

import numpy as np
from PIL import Image

from apps.ocr import Picture, Text
from apps.textlines import areas, onto
from wakeful import MediaType, reserve

PEN: Final = np.array([255, 236, 96], np.uint8)
"""No colour gets lighter than this: paper becomes yellow, and ink stays what it is."""

QUICK: Final = 1
"""zlib's level: a page of 9 million pixels takes a third of a second, and three at the usual 6."""


def mark(page: Picture, text: Text) -> Annotated[bytes, MediaType("image/png")]:
    """The picture, with what is text in it marked."""
    reserve(2 * page.nbytes)  # a copy to mark, and at most as much of PNG
    marked = page.copy()
    height, width = page.shape[:2]
    for box in areas(text[0]):
        left, top, right, bottom = onto(
            box, seen=(text.shape[2], text.shape[1]), size=(width, height)
        )
        line = marked[round(top) : round(bottom), round(left) : round(right)]
        np.minimum(line, PEN, out=line)
    written = BytesIO()
    Image.fromarray(marked).save(written, "PNG", compress_level=QUICK)
    return written.getvalue()

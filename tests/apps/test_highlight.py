"""`highlight`: a page comes back as a picture with its lines marked."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from apps.ocr import PEN, mark
from tests.apps.pictures import encoded, written
from tests.apps.test_company import answers
from tests.apps.test_ocr import INVOICE

BLANK = Image.new("RGB", (64, 64), "white")


def pixels(picture: bytes) -> np.ndarray:
    """Of a PNG file."""
    opened = Image.open(BytesIO(picture))
    assert opened.format == "PNG"
    return np.asarray(opened)


def test_the_pen_marks_what_is_text():
    """In the pixels of the picture, whatever size the detector saw it at; ink stays dark."""
    page = np.full((100, 200, 3), 255, np.uint8)
    page[40:60, 50:150] = 0
    seen = np.zeros((1, 64, 128), np.float32)
    seen[0, 24:40, 32:96] = 1
    marked = pixels(mark(page, seen))
    assert marked.shape == page.shape
    assert (marked[40:60, 50:150] == 0).all()
    assert (marked[38:40, 60:140] == PEN).all()
    assert (marked[:20] == 255).all()
    assert (page[38] == 255).all()  # what it was given


@pytest.mark.models
@pytest.mark.slow
def test_pages_of_one_call(models):
    """Each its own picture; one without lines is as it was."""
    invoice = written(INVOICE)
    rows = [{"image": encoded(picture)} for picture in (BLANK, invoice)]
    [[blank, marked]] = answers("highlight", [rows])
    assert (pixels(blank["mark"]) == 255).all()
    found = pixels(marked["mark"])
    assert found.shape == np.asarray(invoice).shape
    is_marked = (found == PEN).all(axis=2)
    assert 0.02 < is_marked.mean() < 0.8
    assert (found[~is_marked] <= np.asarray(invoice.convert("RGB"))[~is_marked]).all()

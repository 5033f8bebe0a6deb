"""Lines of text out of a map of pixels: what is a line, where it is, in which order, and at what
size it is cut out.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from apps.textlines import GREY, STEP, WIDEST, areas, cut, in_reading_order, onto


def text(*blocks, size=(100, 200), sure=0.9):
    """A map with blocks of text: left, top, right, bottom."""
    made = np.zeros(size, np.float32)
    for left, top, right, bottom in blocks:
        made[top:bottom, left:right] = sure
    return made


def test_a_block_is_a_box_that_is_grown():
    """By area x 1.6 over twice the circumference: 20 x 60 px by 12."""
    assert areas(text((30, 40, 90, 60))) == [(18, 28, 102, 72)]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (text((10, 10, 13, 13)), "nine pixels are a speck"),
        (text((10, 10, 90, 30), sure=0.4), "above the threshold and below the mean"),
        (text((10, 10, 90, 30), sure=0.3), "not above the threshold"),
        (text(), "a blank page"),
    ],
)
def test_what_is_no_line(found, why):
    """Specks, and what the detector is not sure of."""
    assert areas(found) == [], why


def test_blocks_that_do_not_touch_are_lines_of_their_own():
    """A box counts only its own pixels, whatever else reaches into it."""
    assert len(areas(text((10, 10, 90, 20), (10, 30, 90, 40), (100, 10, 190, 20)))) == 3


def test_boxes_are_scaled_and_kept_on_the_page():
    """A detector that saw it at half the size; what is grown beyond an edge ends there."""
    assert onto((-5, 10, 55, 30), seen=(50, 100), size=(100, 200)) == (0, 20, 100, 60)


@pytest.mark.parametrize(
    ("boxes", "order"),
    [
        ([(0, 50, 9, 60), (0, 10, 9, 20)], [1, 0]),
        ([(50, 10, 90, 20), (0, 12, 40, 22)], [1, 0]),
        ([(50, 10, 90, 20), (0, 12, 40, 22), (0, 30, 90, 40)], [1, 0, 2]),
        ([(0, 10, 90, 20), (0, 16, 90, 26)], [0, 1]),
        ([(0, 0, 9, 100), (20, 40, 60, 50), (20, 60, 60, 70)], [0, 1, 2]),
        ([], []),
    ],
    ids=[
        "top first",
        "one row, left first",
        "a row and a line",
        "lines that overlap a little",
        "next to a tall one",
        "none",
    ],
)
def test_the_order_of_reading(boxes, order):
    """Rows from the top, each from the left."""
    assert in_reading_order(boxes) == [boxes[at] for at in order]


@pytest.mark.parametrize(
    ("box", "width", "filled"),
    [
        ((0, 0, 80, 24), 160, 160),
        ((0, 0, 81, 24), 162, 320),
        ((0, 0, 10, 20), 24, 160),
        ((0.0, 0.0, 0.4, 20.0), 1, 160),
        ((0, 0, 200, 1), WIDEST, WIDEST),
    ],
    ids=["a whole step", "a little more", "less", "thinner than a pixel", "squeezed"],
)
def test_a_line_is_48_high_and_filled_up_to_a_step(box, width, filled):
    """White where the page is, grey beyond."""
    line = cut(Image.new("RGB", (200, 100), "white"), box)
    assert line.shape == (48, filled, 3)
    assert filled % STEP == 0
    assert (line[:, :width] == 255).all()
    assert (line[:, width:] == GREY).all()

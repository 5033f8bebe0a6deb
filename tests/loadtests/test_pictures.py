"""Pictures drawn for load tests."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from loadtests.pictures import PAGES, page, traffic_light


@pytest.mark.parametrize("lines", PAGES)
def test_a_page_is_as_high_as_its_lines(lines: tuple[str, ...]) -> None:
    """And the same file every time, so that its answer is the same."""
    picture = Image.open(BytesIO(page(lines)))
    assert picture.size == (640, 40 + 55 * len(lines))
    assert picture.convert("L").getextrema() == (0, 255)
    assert page(lines) is page(lines)


def test_a_traffic_light_is_red() -> None:
    """Its upper lamp."""
    assert Image.open(BytesIO(traffic_light())).getpixel((150, 62)) == (230, 40, 30)

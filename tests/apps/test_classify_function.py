"""`classify` through the engine."""

from __future__ import annotations

import pytest
from PIL import Image

from runtime.errors import RequestError
from tests.apps.pictures import encoded
from tests.apps.test_company import answers

pytestmark = [pytest.mark.models, pytest.mark.slow]

BLANK = encoded(Image.new("RGB", (64, 64), "white"))


def test_a_photograph_does_not_depend_on_its_batch_mates(models):
    """A cat among blank pictures and next to itself: the same classes, as likely; what is no picture
    fails alone.
    """
    cat = (models / "classify" / "sample.png").read_bytes()
    rows = [{"image": image} for image in (cat, BLANK, cat, b"no picture", cat)]
    together, *alone = answers("classify", [rows, *([row] for row in rows)])
    assert isinstance(together.pop(3), RequestError)
    assert isinstance(alone.pop(3)[0], RequestError)
    assert [
        answer["labels"][0]["label"] for answer in together if answer["labels"][0]["score"] > 0.3
    ] == ["tiger cat"] * 3
    for mixed, (single,) in zip(together, alone, strict=True):
        for guess, same in zip(mixed["labels"], single["labels"], strict=True):
            # it is rounded to 1e-4
            assert guess["score"] == pytest.approx(same["score"], abs=2e-4)

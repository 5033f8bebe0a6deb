"""Text out of pictures: the stages, and the models behind them on a real page and on an invoice."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from apps.ocr import LONGER, SHORTER, Spell, find, page
from runtime.graph.python_stages import signature
from tests.apps.pictures import encoded, written
from wakeful import RequestError

PAGE = [
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
    "markers = np.zeros_like(coins)",
]
"""``sample.png``; the last line begins with ``>>>``, which the recogniser does not see."""

INVOICE = [
    "INVOICE 2026-0417",
    "Bottled water 1.5L 40 x $0.89",
    "Paper towels 12 x $2.35",
    "TOTAL $63.80",
]


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((384, 191), (1472, 736)),
        ((800, 1000), (800, 992)),
        ((4000, 3000), (1600, 1216)),
        ((2000, 20), (1600, 32)),
        ((1, 3000), (32, 1600)),
    ],
    ids=[
        "enlarged",
        "as it is",
        "made smaller",
        "a strip is not enlarged beyond the longer side",
        "a pixel wide",
    ],
)
def test_the_detector_sees_sides_of_multiples_of_32(size, scaled):
    """Near 736 on the shorter side if it had less, and 1600 on the longer at most; the page stays
    as it was sent.
    """
    values = page(encoded(Image.new("L", size, 255)))
    assert values["page"].shape == (size[1], size[0], 3)
    assert values["scaled"].shape == (scaled[1], scaled[0], 3)
    assert (SHORTER % 32, LONGER % 32) == (0, 0)


def test_lines_are_cut_out_of_the_page_as_it_was_sent():
    """Whatever size the detector saw."""
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[40:60, 100:300] = 255
    text = np.zeros((1, 400, 800), np.float32)
    text[0, 90:110, 250:550] = 0.9
    found = find(picture, (400, 200), text)
    assert found["boxes"][0] == pytest.approx((117.5, 37.5, 282.5, 62.5))
    assert [line.shape for line in found["lines"]] == [(48, 320, 3)]
    assert (found["lines"][0][24, :317] == 255).all()


def test_boxes_are_of_the_picture_that_was_sent():
    """Though its page was made smaller; lines are cut out of that."""
    page_of, text = np.full((200, 400, 3), 255, np.uint8), np.zeros((1, 200, 400), np.float32)
    text[0, 45:55, 125:275] = 0.9
    found, doubled = find(page_of, (400, 200), text), find(page_of, (800, 400), text)
    assert doubled["boxes"][0] == pytest.approx([2 * edge for edge in found["boxes"][0]])
    assert [line.shape for line in doubled["lines"]] == [line.shape for line in found["lines"]]


def test_a_page_of_dots_is_refused_before_they_are_cut_out():
    """Each would take 23 kB as a line."""
    text = np.zeros((1, 400, 400), np.float32)
    text.reshape(50, 8, 50, 8)[:, :4, :, :4] = 0.9
    with pytest.raises(RequestError, match="2500 lines, 1024 at most") as refused:
        find(np.zeros((400, 400, 3), np.uint8), (400, 400), text)
    assert refused.value.where == "image"


def test_a_blank_page_has_no_lines():
    """And no words."""
    assert find(np.zeros((32, 32, 3), np.uint8), (32, 32), np.zeros((1, 32, 32), np.float32)) == {
        "boxes": [],
        "lines": [],
    }


@pytest.fixture
def spell(tmp_path):
    """Numbers 1, 2, 3 are a, b and a space."""
    (tmp_path / "alphabet.txt").write_text("\na\nb\n ", encoding="utf-8")
    return Spell(tmp_path / "alphabet.txt")


@pytest.mark.parametrize(
    ("characters", "certainties", "read"),
    [
        ([1, 1, 0, 1, 2, 0], [0.9, 0.1, 1, 0.8, 0.7, 1], ("aab", 0.8)),
        ([0, 0], [1, 1], None),
        ([], [], None),
        ([3, 3], [1, 1], None),
        ([1, 3, 2], [0.4, 0.4, 0.4], None),
        ([0, 2, 3, 2], [1, 1, 1, 0.5], ("b b", 0.8333)),
    ],
    ids=[
        "the same twice is one",
        "nothing",
        "no steps",
        "a space",
        "not sure enough",
        "a space between",
    ],
)
def test_steps_become_text(spell, characters, certainties, read):
    """As connectionist temporal classification has it: one after nothing is new, one after itself
    is not.
    """
    answer = spell(
        [(1.4, 2.6, 3.0, 4.0)],
        [np.array(characters, np.int64)],
        [np.array(certainties, np.float32)],
    )
    assert answer == {
        "lines": [{"text": read[0], "box": [1, 3, 3, 4], "confidence": read[1]}] if read else []
    }


def test_the_schema():
    """Bytes in; a page, two pictures; lists of lines."""
    taken, found = signature.read_signature(page), signature.read_signature(find)
    assert [param.name for param in taken.params] == ["image"]
    assert (taken.gives["scaled"].datatype, taken.gives["scaled"].shape) == ("UINT8", (-1, -1, 3))
    assert [param.name for param in found.params] == ["page", "size", "text"]


@pytest.fixture(scope="session")
def ocr(models):
    """A picture's file to its lines, each model run alone."""
    detect, recognise = (
        ort.InferenceSession(
            str(models / "ocr" / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        for name in ("detect", "recognise")
    )
    spell = Spell(models / "ocr" / "alphabet.txt")

    def run(image):
        seen = page(image)
        found = find(
            seen["page"], seen["size"], detect.run(None, {"pixels": seen["scaled"][None]})[0][0]
        )
        steps = [recognise.run(None, {"pixels": line[None]}) for line in found["lines"]]
        return spell(
            found["boxes"], [step[0][0] for step in steps], [step[1][0] for step in steps]
        )["lines"]

    return run


@pytest.mark.slow
@pytest.mark.models
def test_a_real_page_is_read(ocr, models):
    """Seven lines, in order, each surely, each where it is."""
    lines = ocr((models / "ocr" / "sample.png").read_bytes())
    assert [line["text"] for line in lines] == PAGE
    assert min(line["confidence"] for line in lines) > 0.95
    tops = [line["box"][1] for line in lines]
    assert tops == sorted(tops)
    assert all(
        0 <= left < right <= 384 and 0 <= top < bottom <= 191
        for left, top, right, bottom in (line["box"] for line in lines)
    )


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize(
    "form",
    [
        pytest.param("PNG", marks=pytest.mark.full),
        pytest.param("JPEG", marks=pytest.mark.full),
        "on a transparent ground",
    ],
)
def test_an_invoice_is_read_in_whatever_form_it_comes(ocr, form):
    """The same lines."""
    picture = written(INVOICE)
    image = encoded(picture, form, quality=90) if form in ("PNG", "JPEG") else None
    if image is None:
        dark = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        dark.paste((0, 0, 0, 255), mask=picture.convert("L").point(lambda value: 255 - value))
        image = encoded(dark)
    assert [line["text"] for line in ocr(image)] == INVOICE


@pytest.mark.slow
@pytest.mark.models
def test_a_blank_picture_says_nothing(ocr):
    """An answer without lines, no error."""
    assert ocr(encoded(Image.new("RGB", (64, 64), "white"))) == []

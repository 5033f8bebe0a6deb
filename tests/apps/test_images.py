"""Pictures out of strangers' bytes: what is read, as what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from apps.images import FORMATS, MAX_PIXELS, decode
from runtime import RequestError
from tests.apps.pictures import encoded

RED = (255, 0, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind):
    """As RGB."""
    picture = decode(encoded(Image.new("RGB", (6, 4), "white"), kind))
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (6, 4), (255, 255, 255))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_every_mode_of_eight_bits_is_read(mode):
    """Grey, palettes and printers' colours become RGB."""
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert decode(encoded(Image.new("RGB", (2, 2), "white").convert(mode), kind)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_white(mode):
    """Not the black that lies under it in most files."""
    assert decode(encoded(Image.new(mode, (2, 2), 0))).getpixel((0, 0)) == (255, 255, 255)


def test_a_turned_photograph_is_read_upright():
    """As its EXIF data say: orientation 6 is a quarter turn to the right."""
    picture = Image.new("RGB", (8, 4), "white")
    picture.paste(RED, (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encoded(picture, "PNG", exif=exif))
    assert turned.size == (4, 8)
    assert (turned.getpixel((0, 0)), turned.getpixel((0, 7))) == (RED, (255, 255, 255))


def test_a_picture_that_is_too_large_is_refused_undecoded():
    """Few bytes claim many pixels: a bomb is known by its header."""
    bomb = encoded(Image.new("1", (100_000, 500)))
    assert len(bomb) < 100_000 < MAX_PIXELS
    with pytest.raises(RequestError, match=r"has 100000 x 500 pixels, 40000000 at most are read\. Send it smaller") as refused:
        decode(bomb)
    assert refused.value.where == "image"


def test_a_bomb_that_pillow_knows_is_refused_alike():
    """It warns of what is larger still, and warnings are errors here."""
    with pytest.raises(RequestError, match="pixels"):
        decode(encoded(Image.new("1", (100_000, 1000))))
    with pytest.raises(RequestError, match="pixels"):
        decode(encoded(Image.new("1", (200_000, 1000))))


def test_sixteen_bits_are_refused():
    """Made eight, they would be white."""
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(RequestError, match="more than 8 bits a channel"):
        decode(encoded(deep))


@pytest.mark.parametrize("data", [b"", b"no picture", b"%PDF-1.7", b"<svg/>", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(data):
    """With what would be one."""
    with pytest.raises(RequestError, match=r"no picture of a kind that is read here: PNG, JPEG|cannot be read") as refused:
        decode(data)
    assert refused.value.where == "image"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_picture_is_read_or_refused(kind):
    """Cut off anywhere or with bytes turned over, it is never another error than the caller's."""
    whole = encoded(Image.effect_noise((24, 24), 80).convert("RGB"), kind)
    random = np.random.default_rng(0)
    damaged = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 40))]
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(whole), 4):
            data[at] = random.integers(0, 256)
        damaged.append(bytes(data))
    assert {_fate(data) for data in damaged} <= {"RGB", "image"}


def _fate(data):
    """The mode of the picture, or the field that is at fault."""
    try:
        return decode(data).mode
    except RequestError as error:
        return error.where

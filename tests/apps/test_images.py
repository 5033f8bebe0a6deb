"""Pictures out of strangers' bytes: what is read, as what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from apps import images
from apps.images import FORMATS, KEPT_PIXELS, MAX_PIXELS, MAX_SCANS, decode, decode_sized, pixels_of
from runtime.batching.calls import Call
from runtime.batching.reservation import CURRENT_ROW, BodyReservation, ByteBudget
from runtime.errors import Overloaded
from tests.apps.pictures import encoded
from wakeful import RequestError

RED = (255, 0, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind):
    """As RGB."""
    picture = decode(encoded(Image.new("RGB", (6, 4), "white"), kind))
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == (
        "RGB",
        (6, 4),
        (255, 255, 255),
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_every_mode_of_eight_bits_is_read(mode):
    """Grey, palettes and printers' colours become RGB."""
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert decode(encoded(Image.new("RGB", (2, 2), "white").convert(mode), kind)).getpixel(
        (0, 0)
    ) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_white(mode):
    """Not the black that is under it in most files."""
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
    with pytest.raises(RequestError, match=r"\b100000 x 500 pixels.*\b40000000\b") as refused:
        decode(bomb)
    assert refused.value.where == "image"


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "1"), ("PNG", "P"), ("JPEG", "L")])
def test_a_large_picture_is_made_smaller(kind, mode):
    """To 12 million pixels at most, a JPEG as it is decoded; the size that was sent is in the answer."""
    picture, size = decode_sized(encoded(Image.new(mode, (5000, 4000), 1), kind))
    assert size == (5000, 4000)
    assert KEPT_PIXELS / 2 < picture.width * picture.height <= KEPT_PIXELS
    assert picture.width / picture.height == pytest.approx(5 / 4, abs=0.001)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_a_picture_made_smaller_in_strips_is_as_if_made_so_at_once(monkeypatch, mode):
    """Each pixel is the mean of its own, whatever strip they are in; turned, transparent and in all
    modes.
    """
    monkeypatch.setattr(images, "KEPT_PIXELS", 2000)
    monkeypatch.setattr(images, "STRIP_PIXELS", 500)
    noise = Image.effect_noise((90, 70), 90).convert("RGB").convert(mode)
    if mode in ("RGBA", "LA"):
        noise.putalpha(200)
    kind, exif = ("TIFF" if mode == "CMYK" else "PNG"), Image.Exif()
    exif[0x0112] = 6
    picture, size = decode_sized(encoded(noise, kind, exif=exif))
    on_white = Image.new("RGBA", noise.size, "white")
    plain = (
        Image.alpha_composite(on_white, noise.convert("RGBA")).convert("RGB")
        if mode in ("RGBA", "LA")
        else noise.convert("RGB")
    )
    wanted = plain.resize(picture.size[::-1], Image.Resampling.BOX).transpose(
        Image.Transpose.ROTATE_270
    )
    assert size == (70, 90)
    assert np.abs(np.asarray(picture, int) - np.asarray(wanted, int)).max() <= 1


def test_a_format_whose_decoder_takes_more_is_bounded_lower():
    """WEBP takes 16 bytes a pixel: 640 MB for what is allowed of others."""
    with pytest.raises(RequestError, match=r"\b9000000\b"):
        decode(encoded(Image.new("L", (3001, 3000)), "WEBP", quality=0, method=0))


def test_a_bomb_that_pillow_knows_is_refused_alike():
    """It warns of what is larger still, and warnings are errors here."""
    with pytest.raises(RequestError, match="pixels"):
        decode(encoded(Image.new("1", (100_000, 1000))))
    with pytest.raises(RequestError, match="pixels"):
        decode(encoded(Image.new("1", (200_000, 1000))))


def test_a_jpeg_of_many_scans_is_refused_undecoded():
    """Each is twelve bytes and takes a pass over all pixels: 100,000 of them held a thread for
    minutes.
    """
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    assert decode(data).size == (64, 64)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * MAX_SCANS + b"\xff\xd9"
    with pytest.raises(RequestError, match=rf"\b{MAX_SCANS}\b") as refused:
        decode(bomb)
    assert refused.value.where == "image"


def test_sixteen_bits_are_refused():
    """Made eight, they would be white."""
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(RequestError, match="8 bits"):
        decode(encoded(deep))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"%PDF-1.7", b"<svg/>", b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_refused(data):
    """With what would be one."""
    with pytest.raises(RequestError, match=r"picture.*PNG, JPEG|cannot be read") as refused:
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


@pytest.mark.parametrize("size", [(3, 700_001), (300_000, 2), (7, 5)])
def test_the_pixels_of_a_picture_are_its_own_however_many_strips_they_come_in(size):
    """As numpy takes them at once."""
    picture = Image.effect_noise(size, 90).convert("RGB")
    assert np.array_equal(pixels_of(picture), np.asarray(picture))


@pytest.mark.parametrize(
    ("mode", "kind", "each"),
    [("RGB", "PNG", 4), ("RGBA", "PNG", 4), ("L", "PNG", 1), ("P", "GIF", 1), ("RGB", "WEBP", 16)],
)
def test_a_picture_reserves_memory_before_it_is_decoded(mode, kind, each, monkeypatch):
    """For what its header says and for what is kept of it.

    The first is given back; refused as load, not as no picture.
    """
    image = encoded(Image.new(mode, (300, 200)), kind)
    budget, call = (
        ByteBudget(lambda: 300 * 200 * 4),
        Call([{}], request_id="", now=0.0, deadline=1.0),
    )
    call.account = reservation = BodyReservation((budget,), lambda: 1)
    seen: list[int] = []
    monkeypatch.setattr(
        BodyReservation,
        "add",
        lambda self, more, own, add=BodyReservation.add: (seen.append(more), add(self, more, own))[
            1
        ],
    )
    CURRENT_ROW.set(call.rows[0])
    try:
        decode(image)
        assert seen == [300 * 200 * (each + 4), -300 * 200 * each]
        reservation.end()
        BodyReservation((budget,), lambda: 1).add(1, 0)
        call.account, call.rows[0].held = BodyReservation((budget,), lambda: 1), 0
        monkeypatch.setattr(images, "_in_strips", lambda *_: pytest.fail("it was decoded"))
        with pytest.raises(Overloaded):
            decode(image)
    finally:
        CURRENT_ROW.set(None)

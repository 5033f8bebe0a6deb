"""What a body is, by the bytes that it begins with."""

from __future__ import annotations

import gzip
import io
import json
import wave
import zipfile

import numpy as np
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runtime.protocol.content_kinds import kind_of_content, media_type_of


def picture(kind: str) -> bytes:
    """A small one, as pillow writes it."""
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, kind)
    return out.getvalue()


def sound() -> bytes:
    """A tenth of a second of nothing."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    return out.getvalue()


def archive() -> bytes:
    """With one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a", "a")
    return out.getvalue()


def array() -> bytes:
    """Of two numbers."""
    out = io.BytesIO()
    np.save(out, np.zeros(2))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (picture("PNG"), "a PNG picture"),
        (picture("JPEG"), "a JPEG picture"),
        (picture("GIF"), "a GIF picture"),
        (picture("WEBP"), "a WebP picture"),
        (picture("BMP"), "a BMP picture"),
        (picture("TIFF"), "a TIFF picture"),
        (sound(), "a WAV sound"),
        (b"ID3\x03" + bytes(10), "an MP3 sound"),
        (b"\0\0\0\x18ftypheic" + bytes(10), "a HEIC picture"),
        (b"\0\0\0\x18ftypmp42" + bytes(10), "an MP4 sound or video"),
        (b"%PDF-1.7\n", "a PDF"),
        (gzip.compress(b"a", mtime=0), "a gzip archive"),
        (zstd.compress(b"a"), "a zstd archive"),
        (archive(), "a ZIP archive"),
        (array(), "a NumPy array"),
        ('{"text": "a"}'.encode("utf-16"), ""),
        (b"\x01\x02\x03", "binary data"),
        (b"", ""),
        (b"text=two+words&k=3", ""),
        (b"BM=1&RIFF=2", ""),
        ("größer".encode(), ""),
    ],
)
def test_a_kind_is_known_by_its_beginning(content: bytes, kind: str):
    """As those that write it do."""
    assert kind_of_content(content) == kind
    assert kind_of_content(memoryview(content)) == kind


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_no_json_is_a_file(value):
    """Whatever it says."""
    assert kind_of_content(json.dumps(value).encode()) == ""


@given(st.binary(max_size=600))
def test_any_bytes_are_looked_at(content):
    """Without an error."""
    assert isinstance(kind_of_content(content), str)


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("a PNG picture", "image/png"),
        ("binary data", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_kind_has_a_media_type(kind, media_type):
    """Any bytes have one."""
    assert media_type_of(kind) == media_type


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (picture("PNG"), "a PNG picture"),
        (picture("JPEG"), "a JPEG picture"),
        (picture("WEBP"), "a WebP picture"),
        (sound(), "a WAV sound"),
        (b"%PDF-1.7\n", "a PDF"),
        (gzip.compress(b"a", mtime=0), "a gzip archive"),
    ],
)
def test_what_curl_leaves_of_a_file_is_known(content, kind):
    """`-d @FILE` drops the ends of lines and null bytes."""
    assert kind_of_content(content.translate(None, b"\r\n\0")) == kind

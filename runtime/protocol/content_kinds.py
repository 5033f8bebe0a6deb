"""What some bytes are, by those they begin with: told to a client that sent a file where something
else was expected. Nothing is decoded, and no answer depends on it.

The signatures are those of the kinds of file that are sent to models; each is followed as far as no
JSON text and no form can begin so.
"""

from __future__ import annotations

import re
from typing import Final

LOOKED_AT_BYTES: Final = 512
"""Of a body; the longest signature ends at its byte 262."""

_SIGNATURES: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("a PNG picture", rb"\x89PNG\r\n\x1a\n"),
        ("a JPEG picture", rb"\xff\xd8\xff"),
        ("a GIF picture", rb"GIF8[79]a"),
        ("a WebP picture", rb"RIFF.{4}WEBP"),
        ("a BMP picture", rb"BM.{4}\0{4}"),
        ("a TIFF picture", rb"II\*\0|MM\0\*"),
        ("an AVIF or HEIC picture", rb".{4}ftyp(?:avif|avis|hei[cfx]|mif1)"),
        ("a WAV sound", rb"RIFF.{4}WAVE"),
        ("a FLAC sound", rb"fLaC\0"),
        ("an Ogg sound or video", rb"OggS\0"),
        ("an MP3 sound", rb"ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]"),
        ("an MP4 sound or video", rb".{4}ftyp"),
        ("a WebM or Matroska video", rb"\x1a\x45\xdf\xa3"),
        ("a PDF", rb"%PDF-\d"),
        ("a gzip archive", rb"\x1f\x8b\x08"),
        ("a zstd archive", rb"\x28\xb5\x2f\xfd"),
        ("a ZIP archive", rb"PK\x03\x04"),
        ("a bzip2 archive", rb"BZh[1-9]1AY&SY"),
        ("an xz archive", rb"\xfd7zXZ\0"),
        ("a tar archive", rb".{257}ustar[\0 ]"),
        ("a NumPy array", rb"\x93NUMPY"),
        ("a Parquet file", rb"PAR1[\0-\x1f]"),
        ("an HDF5 file", rb"\x89HDF\r\n\x1a\n"),
        ("", rb"\xff\xfe|\xfe\xff"),  # a text in UTF-16, of which its reader says what is wrong
    )
)

_CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""What no text has."""


def kind_of_content(content: bytes | memoryview) -> str:
    """What a file is, with its article: ``a PNG picture``; ``binary data`` of no kind that is known
    here; empty: it may be text.
    """
    head = bytes(content[:LOOKED_AT_BYTES])
    for name, pattern in _SIGNATURES:
        if pattern.match(head):
            return name
    return "binary data" if _CONTROL.search(head) else ""

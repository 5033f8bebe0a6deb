"""What some bytes are, by those they begin with: told to a client that sent a file where something
else was expected. Nothing is decoded, and no answer depends on it.

The signatures are those of the kinds of file that are sent to models; each is followed as far as no
JSON text and no form can begin so. ``curl -d @FILE`` leaves out the ends of lines and null bytes of
a file, so they are not asked for.
"""

from __future__ import annotations

import re
from typing import Final

LOOKED_AT_BYTES: Final = 512
"""Of a body; the longest signature ends at its byte 262."""

_SIGNATURES: Final[tuple[tuple[str, str, re.Pattern[bytes]], ...]] = tuple(
    (name, media_type, re.compile(pattern, re.DOTALL))
    for name, media_type, pattern in (
        ("a PNG picture", "image/png", rb"\x89PNG\r?\n?\x1a"),
        ("a JPEG picture", "image/jpeg", rb"\xff\xd8\xff"),
        ("a GIF picture", "image/gif", rb"GIF8[79]a"),
        ("a WebP picture", "image/webp", rb"RIFF.{1,4}WEBP"),
        ("a BMP picture", "image/bmp", rb"BM.{4}\0{4}"),
        ("a TIFF picture", "image/tiff", rb"II\*\0|MM\0\*"),
        ("an AVIF picture", "image/avif", rb".{4}ftypavi[fs]"),
        ("a HEIC picture", "image/heic", rb".{4}ftyp(?:hei[cfx]|mif1)"),
        ("a WAV sound", "audio/wav", rb"RIFF.{1,4}WAVE"),
        ("a FLAC sound", "audio/flac", rb"fLaC\0"),
        ("an Ogg sound or video", "audio/ogg", rb"OggS\0"),
        ("an MP3 sound", "audio/mpeg", rb"ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]"),
        ("an MP4 sound or video", "video/mp4", rb".{4}ftyp"),
        ("a WebM or Matroska video", "video/webm", rb"\x1a\x45\xdf\xa3"),
        ("a PDF", "application/pdf", rb"%PDF-\d"),
        ("a gzip archive", "application/gzip", rb"\x1f\x8b\x08"),
        ("a zstd archive", "application/zstd", rb"\x28\xb5\x2f\xfd"),
        ("a ZIP archive", "application/zip", rb"PK\x03\x04"),
        ("a bzip2 archive", "application/x-bzip2", rb"BZh[1-9]1AY&SY"),
        ("an xz archive", "application/x-xz", rb"\xfd7zXZ\0"),
        ("a tar archive", "application/x-tar", rb".{257}ustar[\0 ]"),
        ("a NumPy array", "application/octet-stream", rb"\x93NUMPY"),
        ("a Parquet file", "application/vnd.apache.parquet", rb"PAR1[\0-\x1f]"),
        ("an HDF5 file", "application/x-hdf5", rb"\x89HDF\r\n\x1a\n"),
        # a text in UTF-16, of which its reader says what is wrong
        ("", "", rb"\xff\xfe|\xfe\xff"),
    )
)

_CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""What no text has."""


def kind_of_content(content: bytes | memoryview) -> str:
    """What a file is, with its article: ``a PNG picture``; ``binary data`` of no kind that is known
    here; empty: it may be text.
    """
    head = bytes(content[:LOOKED_AT_BYTES])
    for name, _, pattern in _SIGNATURES:
        if pattern.match(head):
            return name
    return "binary data" if _CONTROL.search(head) else ""


def media_type_of(kind: str) -> str:
    """The media type of such a kind; of one that is not known, that of any bytes."""
    known = {name: media_type for name, media_type, _ in _SIGNATURES if name}
    return known.get(kind, "application/octet-stream")

"""The parts of forms, as clients write them and as they must not."""

from __future__ import annotations

import random
import tracemalloc
from urllib.parse import unquote_to_bytes

import httpx
import pytest

from runtime.errors import MalformedBody, RequestError, TooLarge, UnsupportedMediaType, WakefulError
from runtime.http.bodies.forms import MAX_PARTS, STEP_BYTES, read_multipart, read_urlencoded

TYPE = b"multipart/form-data; boundary=b"


def part(head: str, value: bytes = b"1") -> bytes:
    """One part, with its boundary."""
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"


def named(name: str, value: bytes = b"1", more: str = "") -> bytes:
    """A part with a name."""
    return part(f'Content-Disposition: form-data; name="{name}"{more}', value)


END = b"--b--\r\n"


FILES = {
    "nothing": b"",
    "a line": b"\r\n",
    "a boundary": b"--b",
    "half a boundary": b"\r\n--",
    "another boundary": b"\r\n--c\r\n",
    "many half boundaries": b"\r" * 1000,
    "noise": random.Random(1).randbytes(100_000),
    "a boundary in capitals": b"\r\n--B--\r\n" * 1000,
}


@pytest.mark.parametrize("value", FILES.values(), ids=FILES)
def test_a_file_is_taken_byte_for_byte(value: bytes):
    """Whatever is in it but the boundary; a client's own encoder as the judge."""
    request = httpx.Request(
        "POST",
        "http://x",
        data={"threshold": "0.5", "tag": ["a", "ü"]},
        files={"image": ("x.png", value)},
    )
    parts = read_multipart(request.read(), request.headers["content-type"].encode())
    assert parts == [
        ("threshold", b"0.5"),
        ("tag", b"a"),
        ("tag", "ü".encode()),
        ("image", value),
    ]


REFUSED: dict[str, tuple[bytes, bytes, type[WakefulError], str]] = {
    "no boundary": (END, b"multipart/form-data", MalformedBody, "content-type"),
    "a long boundary": (
        END,
        b"multipart/form-data; boundary=" + b"x" * 71,
        MalformedBody,
        "content-type",
    ),
    "nothing": (b"", TYPE, MalformedBody, "parts[0]"),
    "no form": (b"x", TYPE, MalformedBody, "parts[0]"),
    "no last boundary": (named("a"), TYPE, MalformedBody, "a"),
    "no last part": (named("a") + b"--b\r\n", TYPE, MalformedBody, "parts[1]"),
    "cut in a value": (named("image")[:-2], TYPE, MalformedBody, "image"),
    "no disposition": (part("x: y") + END, TYPE, MalformedBody, "parts[0]"),
    "another disposition": (
        part("content-disposition: attachment; name=a") + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "an empty name": (
        part('content-disposition: form-data; name=""') + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "a name that is not UTF-8": (
        b'--b\r\ncontent-disposition: form-data; name="\xff"\r\n\r\n1\r\n' + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "no header": (named("a") + part("no colon") + END, TYPE, MalformedBody, "parts[1]"),
    "a long header": (
        named("a", more="; x=" + "y" * 5000) + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "many headers": (named("a", more="\r\nx: y" * 20) + END, TYPE, MalformedBody, "parts[0]"),
    "a transfer encoding": (
        named("image", more="\r\ncontent-transfer-encoding: base64") + END,
        TYPE,
        RequestError,
        "image",
    ),
    "many parts": (named("a") * (MAX_PARTS + 1) + END, TYPE, TooLarge, ""),
}


@pytest.mark.parametrize(("body", "content_type", "error", "where"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_form_is_refused(
    body: bytes, content_type: bytes, error: type[WakefulError], where: str
):
    """And the part is named where there is one."""
    with pytest.raises(error) as refused:
        read_multipart(body, content_type)
    assert refused.value.where == where


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", []),
        (b"a=1", [("a", b"1")]),
        (b"a=1&a=2&b=", [("a", b"1"), ("a", b"2"), ("b", b"")]),
        (b"a+b=1+2&%C3%BC=%00%ff&&c\r\n", [("a b", b"1 2"), ("ü", b"\x00\xff"), ("c", b"")]),
    ],
)
def test_pairs_are_decoded(body: bytes, parts: list[tuple[str, bytes]]):
    """Names are text, values bytes."""
    assert read_urlencoded(body) == parts


@pytest.mark.parametrize("before", range(4))
def test_a_long_value_is_decoded_as_a_short_one(before: int):
    """Wherever the steps end, and what is no escape stays as it is; urllib as the judge."""
    value = b"a" * before + (b"%41b%%34%4%zz" * STEP_BYTES)[: 3 * STEP_BYTES] + b"%4"
    assert read_urlencoded(b"x=" + value) == [("x", unquote_to_bytes(value))]


def test_decoding_takes_no_more_memory_than_a_few_bodies():
    """Each escape was an object of its own, 80 bytes a byte of the body."""
    body = b"x=" + b"%41" * 200_000
    tracemalloc.start()
    try:
        read_urlencoded(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(body)


@pytest.mark.parametrize(
    ("body", "error", "where"),
    [
        (b'{"a": 1}', UnsupportedMediaType, "content-type"),
        (b' [{"a": 1}]', UnsupportedMediaType, "content-type"),
        (b"%ff=1", MalformedBody, "parts[0]"),
        (b"&" * MAX_PARTS, TooLarge, ""),
    ],
    ids=["JSON", "an array", "a name that is not UTF-8", "many pairs"],
)
def test_pairs_that_are_none_are_refused(body: bytes, error: type[WakefulError], where: str):
    """JSON that `curl -d` sent as a form first of all."""
    with pytest.raises(error) as refused:
        read_urlencoded(body)
    assert refused.value.where == where

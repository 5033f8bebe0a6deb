"""The parts of forms, as clients write them and as they must not."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import pytest

from runtime.errors import MalformedBody, RequestError, TooLarge, UnsupportedMediaType, WakefulError
from runtime.http.bodies.forms import (
    MAX_BOUNDARY_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PADDING_BYTES,
    MAX_PAIRS_BYTES,
    MAX_PARTS,
    MAX_SEMICOLONS,
    SEARCH_BYTES,
    STEP_BYTES,
    read_multipart,
    read_urlencoded,
)

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
    "a boundary with more behind it": b"\r\n--bb\r\n--b-\r\n--b x\r\n--b\t-\r\n-b",
}


@pytest.mark.parametrize("step", [STEP_BYTES, 7])
@pytest.mark.parametrize("value", FILES.values(), ids=FILES)
def test_a_file_is_taken_byte_for_byte(monkeypatch, value: bytes, step: int):
    """Whatever is in it but the boundary, wherever a step of looking ends; a client's own encoder
    as the judge.
    """
    monkeypatch.setattr("runtime.http.bodies.forms.SEARCH_BYTES", step)
    monkeypatch.setattr("runtime.http.bodies.forms.STEP_BYTES", step)
    request = httpx.Request(
        "POST",
        "http://x",
        headers={"content-type": TYPE.decode()},
        data={"threshold": "0.5", "tag": ["a", "ü"]},
        files={"image": ("x.png", value)},
    )
    parts = read_multipart(request.read(), TYPE)
    assert parts == [
        ("threshold", b"0.5"),
        ("tag", b"a"),
        ("tag", "ü".encode()),
        ("image", value),
    ]


def padded(size: int, head: str = 'content-disposition: form-data; name="a"') -> bytes:
    """A part whose head has so many bytes."""
    return part(head + "\r\nx: " + "y" * (size - len(head) - 5))


TAKEN: dict[str, tuple[bytes, bytes]] = {
    "lines before the first boundary": (b"This is a form.\r\n\r\n" + named("a") + END, TYPE),
    "another boundary before it": (b"--c\r\n\r\n--" + b"\r\n" + named("a") + END, TYPE),
    "an empty line first": (b"\r\n" + named("a") + END, TYPE),
    "half an empty line first": (b"\n" + named("a") + END, TYPE),
    "lines behind the last": (named("a") + END + b"\r\n" + named("b") + END, TYPE),
    "no line behind the last": (named("a") + END.rstrip(), TYPE),
    "spaces in the lines of boundaries": (
        (named("a") + END).replace(
            b"--b\r\n", b"--b" + b" \t" * (MAX_PADDING_BYTES // 2) + b"\r\n"
        ),
        TYPE,
    ),
    "the longest boundary": (
        (named("a") + END).replace(b"--b", b"--" + b"b" * MAX_BOUNDARY_BYTES),
        TYPE + b"b" * (MAX_BOUNDARY_BYTES - 1),
    ),
    "a boundary with signs": (
        (named("a") + END).replace(b"--b", b"--(.*+)"),
        TYPE[:-1] + b'"(.*+)"',
    ),
    "the longest head": (padded(MAX_HEAD_BYTES) + END, TYPE),
    "as many headers as may be": (named("a", more="\r\nx: y" * (MAX_HEADERS - 1)) + END, TYPE),
    "an empty header": (named("a", more="\r\nx:") + END, TYPE),
    "as many semicolons as may be": (
        named("a", more=f'; filename="{";" * (MAX_SEMICOLONS - 2)}"') + END,
        TYPE,
    ),
    "names in capitals": (
        named("a").upper().replace(b'"A"', b'"a"').replace(b"--B", b"--b") + END,
        TYPE,
    ),
}


@pytest.mark.parametrize(("body", "content_type"), TAKEN.values(), ids=TAKEN)
def test_a_form_is_taken_however_it_is_written(body: bytes, content_type: bytes):
    """By RFC 2046 and RFC 7578, to the last byte of each bound."""
    assert read_multipart(body, content_type) == [("a", b"1")]


def test_as_many_parts_as_may_be():
    """In both kinds of forms."""
    assert len(read_multipart(named("a") * MAX_PARTS + END, TYPE)) == MAX_PARTS
    assert len(read_urlencoded(b"&".join([b"a=1"] * MAX_PARTS))) == MAX_PARTS
    assert read_urlencoded(b"a=".ljust(MAX_PAIRS_BYTES, b"b")) == [
        ("a", b"b" * (MAX_PAIRS_BYTES - 2))
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
    "a long head": (padded(MAX_HEAD_BYTES + 1) + END, TYPE, MalformedBody, "parts[0]"),
    "a head without an end": (
        b"--b\r\nx: " + b"y" * (MAX_HEAD_BYTES + 10),
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "many headers": (
        named("a", more="\r\nx: y" * MAX_HEADERS) + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "many semicolons": (
        named("a") + named("a", more=";" * MAX_SEMICOLONS) + END,
        TYPE,
        MalformedBody,
        "parts[1]",
    ),
    "many semicolons in the content type": (
        named("a") + END,
        TYPE + b";" * MAX_SEMICOLONS,
        MalformedBody,
        "content-type",
    ),
    "half a boundary first": (b"--bb\r\n" + named("a") + END, TYPE, MalformedBody, "parts[0]"),
    "a header of two lines": (
        named("a", more="\r\nx: y\nz") + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
    "a folded header": (
        part('content-disposition: form-data;\r\n name="a"') + END,
        TYPE,
        MalformedBody,
        "parts[0]",
    ),
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


@pytest.mark.parametrize("seed", range(4))
def test_escapes_are_decoded_as_others_do(monkeypatch, seed: int):
    """Wherever a step ends, and what is none stays as it is; urllib as the judge."""
    monkeypatch.setattr("runtime.http.bodies.forms.ESCAPES_BYTES", 3 + 2 * seed)
    dice = random.Random(seed)
    pieces = [b"%", b"%4", b"%41", b"%aF", b"%zz", b"4", b"F", b"a", b"\xff"]
    for _ in range(300):
        value = b"".join(dice.choices(pieces, k=dice.randrange(12)))
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
        (b"x" * (MAX_PAIRS_BYTES + 1), TooLarge, ""),
        (b" " * MAX_PAIRS_BYTES + b"{}", TooLarge, ""),
        (b'{"a": "' + b"b" * MAX_PAIRS_BYTES + b'"}', UnsupportedMediaType, "content-type"),
    ],
    ids=[
        "JSON",
        "an array",
        "a name that is not UTF-8",
        "many pairs",
        "long pairs",
        "long before JSON",
        "long JSON",
    ],
)
def test_pairs_that_are_none_are_refused(body: bytes, error: type[WakefulError], where: str):
    """JSON that `curl -d` sent as a form first of all."""
    with pytest.raises(error) as refused:
        read_urlencoded(body)
    assert refused.value.where == where


def test_reading_parts_ends_when_its_time_is_over():
    """While a boundary is looked for, and while a long value is copied."""

    class OverError(Exception):
        pass

    def over(after: int) -> Any:
        left = iter(range(after))

        def check() -> None:
            if next(left, None) is None:
                raise OverError

        return check

    checks = 2 * STEP_BYTES // SEARCH_BYTES + 2
    body = named("a", b"x" * (2 * STEP_BYTES)) + END
    assert read_multipart(body, TYPE, over(checks)) == [("a", b"x" * (2 * STEP_BYTES))]
    for after in range(checks):
        with pytest.raises(OverError):
            read_multipart(body, TYPE, over(after))

"""The head of an answer that is a file: which bytes of it, and what it is to be called."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import RangeNotSatisfiable
from runtime.http.bodies.files import FILE_CHUNK_BYTES, DiskResponse, choose_range, disposition
from runtime.types.files import open_file


@pytest.mark.parametrize(
    ("value", "size", "found"),
    [
        (b"bytes=0-0", 10, (0, 1)),
        (b"bytes=0-9", 10, (0, 10)),
        (b"bytes=0-10", 10, (0, 10)),
        (b"bytes=9-", 10, (9, 10)),
        (b"bytes=-3", 10, (7, 10)),
        (b"bytes=-30", 10, (0, 10)),
        (b"Bytes= 2-3 ", 10, (2, 4)),
        (b"bytes=10-", 10, "refused"),
        (b"bytes=10-20", 10, "refused"),
        (b"bytes=-0", 10, "refused"),
        (b"bytes=0-", 0, "refused"),
        (b"bytes=-1", 0, "refused"),
        (b"bytes=3-2", 10, None),
        (b"bytes=0-1,3-4", 10, None),
        (b"bytes=-", 10, None),
        (b"bytes=", 10, None),
        (b"bytes=a-b", 10, None),
        (b"bytes=--1", 10, None),
        (b"lines=0-1", 10, None),
        (b"bytes=0-" + b"9" * 19, 10, None),
        (b"bytes=0-" + b"9" * 18, 10, (0, 10)),
    ],
)
def test_a_range(value: bytes, size: int, found: tuple[int, int] | str | None):
    """One of bytes; None is the whole."""
    if found == "refused":
        with pytest.raises(RangeNotSatisfiable) as caught:
            choose_range(value, size)
        assert (caught.value.status, caught.value.where) == (416, "range")
    else:
        assert choose_range(value, size) == found


def test_any_range_is_within_the_file():
    """Whatever is sent: a part that is there, the whole, or a refusal."""
    made = random.Random(7)
    letters = b"bytes=0123456789-, \t"
    for _ in range(3000):
        value = b"bytes=" * made.randint(0, 1) + bytes(
            made.choice(letters) for _ in range(made.randint(0, 8))
        )
        size = made.choice([0, 1, 7, 1000])
        try:
            found = choose_range(value, size)
        except RangeNotSatisfiable:
            continue
        if found is not None:
            assert 0 <= found[0] < found[1] <= size


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("page.png", b'inline; filename="page.png"'),
        ("my page.png", b'inline; filename="my page.png"'),
        ("../../etc/passwd", b'inline; filename="passwd"'),
        ("C:\\x\\y.png", b'inline; filename="y.png"'),
        ("..", b'inline; filename="file"'),
        ("", b'inline; filename="file"'),
        ("é.png", b"inline; filename=\"_.png\"; filename*=UTF-8''%C3%A9.png"),
        ('a"b.png', b"inline; filename=\"a_b.png\"; filename*=UTF-8''a%22b.png"),
        ("a\r\nset-cookie: x", b'inline; filename="aset-cookie: x"'),
        ("\ud800.png", b'inline; filename="png"'),
    ],
)
def test_a_file_name(name: str, header: bytes):
    """As clients read it, without folders."""
    assert disposition(name) == header


def test_no_name_ends_a_header():
    """Whatever it is made of."""
    made = random.Random(8)
    for _ in range(2000):
        name = "".join(chr(made.randrange(1, 0x3000)) for _ in range(made.randint(1, 300)))
        assert re.fullmatch(rb"[ -~]+", disposition(name))
        assert disposition(name).count(b'"') == 2


JSON_TYPE = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("size", "start"),
    [(1, 0), (FILE_CHUNK_BYTES, 0), (FILE_CHUNK_BYTES + 1, 0), (5 * FILE_CHUNK_BYTES, 7)],
)
def test_a_file_for_a_server_that_is_not_ours(tmp_path: Path, size: int, start: int):
    """In chunks, the last of which says so."""
    content = hashlib.shake_128(b"x").digest(size)
    (tmp_path / "x").write_bytes(content)
    file = open_file(tmp_path / "x", "a/b", size)
    sent = asyncio.run(sent_messages(DiskResponse(file, start, size, (), 200, JSON_TYPE)))
    assert sent[0]["headers"][1] == (b"content-length", b"%d" % (size - start))
    assert b"".join(message["body"] for message in sent[1:]) == content[start:]
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert file.descriptor < 0


def test_a_file_that_is_shorter_has_no_last_chunk(tmp_path: Path):
    """So the server cuts the connection."""
    (tmp_path / "x").write_bytes(bytes(3 * FILE_CHUNK_BYTES))
    file = open_file(tmp_path / "x", "a/b", 3 * FILE_CHUNK_BYTES)
    os.truncate(tmp_path / "x", FILE_CHUNK_BYTES + 1)
    response = DiskResponse(file, 0, file.size, (), 200, JSON_TYPE)
    sent = asyncio.run(sent_messages(response))
    assert [message["more_body"] for message in sent[1:]] == [True]
    assert file.descriptor < 0


async def sent_messages(response: DiskResponse) -> list[dict[str, Any]]:
    """What a server is sent, bodies copied: their memory is used again."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append({**message, "body": bytes(message.get("body", b""))})

    await response.send_to(send)
    return sent

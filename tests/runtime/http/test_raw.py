"""Bytes on a socket that no client library would send: each gets one answer that is no surprise,
and no other client notices.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests import basic, serving

LIMIT = 100_000
"""``max_body_bytes`` of ``mean``."""

POST = b"POST /v2/models/mean HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
BODY = b'{"values": [1]}'
GOOD = POST + b"content-length: 15\r\n\r\n" + BODY
LAST = POST + CLOSE + b"content-length: 15\r\n\r\n" + BODY
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """The basic functions, served by `wakeful run`; alive at the end."""
    root = tmp_path_factory.mktemp("basic")
    with serving.run(basic.write(root), root=root, log=root / "log") as url:
        yield url
        assert httpx.post(url + basic.MEAN, json={"values": [1]}, timeout=60).json()["mean"] == 1.0


def answers(url: str, data: bytes) -> list[int]:
    """The statuses of everything that is answered to these bytes until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


def sized(body: bytes) -> bytes:
    """A request with this body, the last on its connection."""
    return POST + CLOSE + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("name", "request_bytes"),
    [
        (
            "length and chunks",
            POST + b"content-length: 15\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", POST + b"content-length: 15\r\ncontent-length: 16\r\n\r\n" + BODY),
        ("one length twice", POST + b"content-length: 15\r\ncontent-length: 15\r\n\r\n" + BODY),
        ("another coding", POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("a space before the colon", POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("bare line feeds", GOOD.replace(b"\r\n", b"\n")),
        ("a chunk size in C", CHUNKED + b"0xF\r\n" + BODY + b"\r\n0\r\n\r\n"),
        ("a chunk size with a plus", CHUNKED + b"+F\r\n" + BODY + b"\r\n0\r\n\r\n"),
        ("a negative chunk size", CHUNKED + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n"),
        ("a folded header", POST + b"x-a: b\r\n c\r\ncontent-length: 15\r\n\r\n" + BODY),
        ("a zero byte in a header", POST + b"x-a: b\0c\r\ncontent-length: 15\r\n\r\n" + BODY),
        (
            "an escape in an id",
            POST + b"x-request-id: a\x1b[31m\r\ncontent-length: 15\r\n\r\n" + BODY,
        ),
        ("a URL of 64 KiB", b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_two_parsers_could_read_differently_is_refused(url, name, request_bytes):
    """400 and the end of the connection: a request that comes after it is not answered
    (reliability cases 6, 8, 27).
    """
    assert answers(url, request_bytes + LAST) == [400]


@pytest.mark.parametrize(
    ("name", "request_bytes", "statuses"),
    [
        (
            "good, bad, good",
            GOOD + POST + b"content-length: 5\r\n\r\n{bad}" + LAST,
            [200, 400, 200],
        ),
        (
            "more than it says it takes",
            POST + b"expect: 100-continue\r\n" + CLOSE + b"content-length: 10000000\r\n\r\n",
            [413],
        ),
        ("10 GiB that never come", POST + CLOSE + b"content-length: 10737418240\r\n\r\n", [413]),
        (
            "another method",
            b"TRACE /v2/models/mean HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n",
            [405],
        ),
        ("a tunnel", b"CONNECT /v2/models/mean HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n", [405]),
        ("HTTP/1.0", GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        ("the absolute form", LAST.replace(b"POST /v2", b"POST http://x/v2"), [200]),
        (
            "a byte a chunk",
            (CHUNKED + b"1\r\n \r\n" * 50_000 + b"f\r\n" + BODY + b"\r\n0\r\n\r\n") + LAST,
            [200, 200],
        ),
        (
            "a form",
            LAST.replace(b"application/json", b"multipart/form-data; boundary=" + b"x" * 10_000),
            [400],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_strange_and_clear_is_answered(url, name, request_bytes, statuses):
    """Once for each request, in order (reliability cases 2, 5, 9, 10, 23)."""
    assert answers(url, request_bytes) == statuses


@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413)])
def test_a_body_is_as_large_as_it_may_be_and_no_larger(url, size, status):
    """JSON, binary, and chunks without a length (reliability case 1)."""
    body = BODY + b" " * (size - len(BODY))
    assert answers(url, sized(body)) == [status]
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:60_000], body[60_000:])
    )
    assert answers(
        url, CHUNKED.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n") + chunks + b"0\r\n\r\n"
    ) == [status]
    header = (
        b'{"inputs":[{"name":"values","datatype":"FP64","shape":[1,2],'
        b'"parameters":{"binary_data_size":16}}]}'
    )
    header += b" " * (size - 16 - len(header))
    infer = (
        POST.replace(b"/mean", b"/mean/infer")
        + CLOSE
        + b"inference-header-content-length: %d\r\n" % len(header)
    )
    assert answers(url, infer + b"content-length: %d\r\n\r\n" % size + header + b"\0" * 16) == [
        status
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd", "/v2/models/%2e%2e%2f", "/v2/models/..%5c", "/v2/models/%00",
        f"/v2/models/{'a' * 4096}", "/v2/models/%20..",
        "/v2/models/%E2%80%A4%E2%80%A4", "/v2/models/__class__",
        "/v2/models/mean/versions/-1/infer", "/v2/models/mean/versions/latest",
        "/v2/models/mean/versions/999999999999/infer", "/v2/models/mean/versions/1/../2",
    ],
)  # fmt: skip
def test_a_name_that_is_no_functions_is_not_found(url, path):
    """A name is looked up in a table and nowhere else (reliability cases 24 and 25)."""
    assert answers(url, b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path.encode(), CLOSE)) == [404]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"null", 400), (b'{"values": [1],}', 400), (b"\xef\xbb\xbf" + BODY, 400),
        (BODY.decode().encode("utf-16"), 400),
        (b'{"unit": "\xff", "values": [1]}', 400), (b'{"unit": "\\ud800", "values": [1]}', 400),
        (b'{"values": [1], "values": [2]}', 200),
        (b'{"values": [NaN]}', 400), (b'{"values": [Infinity]}', 400),
        (b'{"values": [1e400]}', 400), (b'{"values": [-0]}', 200),
        (b'{"values": [%b]}' % (b"9" * 5000), 400), (b'{"values": [true]}', 400),
        (b'{"values": ["1"]}', 400),
        (b"[" * 65 + b"]" * 65, 400), (b"[" * 40_000 + b"]" * 40_000, 400),
    ],
)  # fmt: skip
def test_json_is_read_strictly(url, body, status):
    """What is no JSON is refused; of a repeated key the last value counts; -0 is a number
    (reliability cases 11 to 14).
    """
    assert answers(url, sized(body)) == [status]


def test_an_id_is_cut(url):
    """What comes back is bounded (reliability case 27)."""
    answer = httpx.post(
        url + basic.MEAN, json={"values": [1]}, headers={"x-request-id": "a" * 10_000}, timeout=60
    )
    assert answer.headers["x-request-id"] == "a" * 128


def test_unknown_names_do_not_make_metrics_grow(url):
    """However many are requested, there are as many series as before (reliability case 26)."""
    with httpx.Client(base_url=url, timeout=60) as client:
        before = len(client.get("/metrics").text.splitlines())
        assert {
            client.get(f"/v2/models/unknown-{number}").status_code for number in range(500)
        } == {404}
        assert len(client.get("/metrics").text.splitlines()) == before

"""The rows of what hostile clients send (docs/reliability.md, by number), as bytes on a connection:
how HTTP is written, 1 to 10 and 23 to 28. What bodies say is in ``bodies``.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from backports import zstd

from tests import basic
from tests.hostile.exchanges import WAIT_S, Exchange, exchange
from tests.hostile.targets import WAIT, Target

LIMIT = 100_000
"""``max_body_bytes`` of ``mean``."""

UNSENT_S = 10.0
"""Wait for an answer behind which a connection stays open."""

JSON = b"content-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
BODY = b'{"values": [1]}'


def post(
    body: bytes = BODY,
    *headers: bytes,
    path: str = basic.MEAN,
    media: bytes = JSON,
    last: bool = True,
) -> bytes:
    """A request with a length, the last on its connection unless another follows."""
    head = b"POST %b HTTP/1.1\r\nhost: t\r\n" % path.encode()
    more = b"".join([media, CLOSE if last else b"", *headers])
    return head + more + b"content-length: %d\r\n\r\n" % len(body) + body


def in_chunks(
    body: bytes, sizes: int, *headers: bytes, extension: bytes = b"", trailers: bytes = b""
) -> bytes:
    """The same, in chunks of a size."""
    head = b"POST %b HTTP/1.1\r\nhost: t\r\n" % basic.MEAN.encode() + JSON + CLOSE
    parts = [body[at : at + sizes] for at in range(0, len(body), sizes)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return (
        head
        + b"".join(headers)
        + b"transfer-encoding: chunked\r\n\r\n"
        + chunks
        + b"0\r\n"
        + trailers
        + b"\r\n"
    )


def get(path: str, *headers: bytes, method: str = "GET") -> bytes:
    """A request without a body, the last on its connection."""
    return f"{method} {path} HTTP/1.1\r\nhost: t\r\n".encode() + CLOSE + b"".join(headers) + b"\r\n"


LAST = post()
GOOD = post(last=False)


@dataclass(frozen=True)
class Row:
    """One thing that is sent, and what is right.

    Attributes:
        number: of the row in docs/reliability.md.
        data: what is sent; made when it is needed.
        statuses: of all answers, in their order, before the connection ends.
        haproxy: where HAProxy reads it first; None: the same.
        up: of `up`, whose HAProxy knows the functions' paths; None: as where HAProxy reads it first.
        code: of the last answer's error; empty: not looked at.
        where: of the last answer's error; None: not looked at.
        is_unsent: its body does not come: HAProxy answers, and waits for it as long as a client may
            be silent.
    """

    number: int
    name: str
    data: Callable[[], bytes]
    statuses: tuple[int, ...]
    haproxy: tuple[int, ...] | None = None
    up: tuple[int, ...] | None = None
    code: str = ""
    where: str | None = None
    is_unsent: bool = False

    def __str__(self) -> str:
        return f"{self.number}: {self.name}"

    def expected(self, target: Target) -> tuple[int, ...]:
        """The statuses there."""
        behind = (self.up if target.name == "up" else None) or self.haproxy
        return behind if target.is_behind_haproxy and behind else self.statuses

    def send(self, target: Target) -> Exchange:
        """Make it, and send it."""
        waits = self.is_unsent and target.is_behind_haproxy
        return exchange(target.port, self.data(), wait_s=UNSENT_S if waits else WAIT_S)

    def check(self, target: Target) -> None:
        """Send it: each request is answered as it must be, and others are as before."""
        found = self.send(target)
        expected = self.expected(target)
        is_closed = found.is_closed or (self.is_unsent and target.is_behind_haproxy)
        assert (tuple(found.statuses), is_closed) == (expected, True), str(found)
        if self.code and expected == self.statuses:
            error = found.answers[-1].json
            assert set(error) == {"error", "code", "where", "request_id"}, str(found)
            assert (error["code"], error["where"]) == (self.code, self.where or error["where"])
        for answer in found.answers:
            expect_no_secret(answer.body)


SECRETS = (b"Traceback", b"/runtime/", b"site-packages", b"ray::", b"0x7f", b"uvicorn")
"""What no answer may have of the inside."""


def expect_no_secret(body: bytes) -> None:
    """Fails where an answer tells of the inside."""
    found = [one for one in SECRETS if one in body]
    assert not found, f"{found} in {body[:500]!r}"


def sized(size: int) -> bytes:
    """A body of JSON with so many bytes."""
    return BODY + b" " * (size - len(BODY))


def infer(size: int) -> bytes:
    """A request of v2 with binary data and so many bytes in all."""
    head = (
        b'{"inputs":[{"name":"values","datatype":"FP64","shape":[1,2],'
        b'"parameters":{"binary_data_size":16}}]}'
    )
    head += b" " * (size - 16 - len(head))
    header = b"inference-header-content-length: %d\r\n" % len(head)
    return post(head + bytes(16), header, path=basic.INFER, media=b"")


def compressed(coding: str, body: bytes) -> bytes:
    """A request whose body says that it is compressed."""
    return post(body, f"content-encoding: {coding}\r\n".encode())


def _packed(coding: str, make: Callable[[], bytes]) -> bytes:
    return compressed(coding, make())


@cache
def zeros(size: int = 16 << 20) -> bytes:
    """A gzip of so many."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def _limits() -> list[Row]:
    """1: as large as it may be, and no larger."""
    return [
        Row(1, f"{name}, {size - LIMIT:+d}", partial(make, size), (200 if size <= LIMIT else 413,))
        for size in (LIMIT - 1, LIMIT, LIMIT + 1)
        for name, make in {
            "JSON": lambda n: post(sized(n)),
            "binary": infer,
            "in chunks": lambda n: in_chunks(sized(n), 50_000),
        }.items()
    ]


def _codings() -> list[Row]:
    """3 and 4: what is compressed, or says so."""
    good = gzip.compress(BODY)
    bodies: dict[str, tuple[str, Callable[[], bytes], int]] = {
        "gzip of 16 MiB of zeros": ("gzip", zeros, 413),
        "zstd of 16 MiB of zeros": ("zstd", lambda: zstd.compress(bytes(16 << 20)), 413),
        "gzip in gzip": ("gzip", lambda: gzip.compress(good), 415),
        "gzip cut off": ("gzip", lambda: good[:-5], 400),
        "gzip with more behind": ("gzip", lambda: good + b"x", 400),
        "gzip with a wrong checksum": ("gzip", lambda: good[:-8] + bytes(4) + good[-4:], 400),
        "zstd that is gzip": ("zstd", lambda: good, 400),
    }
    found = [
        Row(3, name, partial(_packed, coding, make), (status,))
        for name, (coding, make, status) in bodies.items()
    ]
    found += [
        Row(
            4,
            coding,
            partial(compressed, coding, BODY),
            (415,),
            code="unsupported_media_type",
        )
        for coding in ("br", "gzip, gzip", "gzip;gzip", "x-foo", "deflate", "compress")
    ]
    found.append(Row(4, "identity", lambda: compressed("identity", BODY), (200,)))
    return found


def _methods() -> list[Row]:
    """9: other ways to ask."""
    return [
        Row(9, "TRACE", lambda: get(basic.MEAN, method="TRACE"), (405,)),
        Row(9, "PUT", lambda: get(basic.MEAN, method="PUT"), (405,)),
        Row(9, "DELETE", lambda: get(basic.MEAN, method="DELETE"), (405,)),
        Row(9, "a method of its own", lambda: get(basic.MEAN, method="M-SEARCH"), (405,)),
        Row(9, "no method", lambda: get(basic.MEAN, method="FETCH"), (400,), (400,)),
        Row(9, "CONNECT", lambda: get(basic.MEAN, method="CONNECT"), (405,), (400,)),
        Row(9, "CONNECT to a host", lambda: get("t:443", method="CONNECT"), (400,), up=(404,)),
        Row(9, "HTTP/1.0", lambda: GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), (200,)),
        Row(9, "the absolute form", lambda: LAST.replace(b"POST /", b"POST http://t/"), (200,)),
        Row(
            9,
            "Expect, and a body that is too long",
            lambda: post(b"", b"expect: 100-continue\r\n").replace(
                b"length: 0", b"length: 10000000"
            ),
            (413,),
            code="too_large",
            is_unsent=True,
        ),
        Row(
            9,
            "GET with a request as its body",
            lambda: (
                GOOD.replace(b"POST /v2/models/mean ", b"GET /v2/models/mean ").replace(
                    b"length: 15", b"length: %d" % (len(LAST))
                )[: -len(BODY)]
                + LAST
                + LAST
            ),
            (200, 200),
        ),
    ]


NAMES = (
    "/../etc/passwd",
    "/v2/models/%2e%2e%2f",
    "/v2/models/..%5c",
    "/v2/models/%00",
    f"/v2/models/{'a' * 4096}",
    "/v2/models/%20..",
    "/v2/models/%E2%80%A4%E2%80%A4",
    "/v2/models/__class__",
    "/v2/models/a/../b",
)
VERSIONS = ("-1/infer", "latest", "999999999999/infer", "1/../2")


def _names() -> list[Row]:
    """24 and 25: names of no function, and of no version."""
    paths = [(24, path) for path in NAMES]
    paths += [(25, f"{basic.MEAN}/versions/{version}") for version in VERSIONS]
    return [
        Row(number, path[:40], partial(get, path), (404,), code="not_found")
        for number, path in paths
    ]


def _deadlines() -> list[Row]:
    """28: what would switch off a deadline; a number that is one ends the call."""
    header = b"x-request-timeout-seconds: %b\r\n"
    values = (b"0", b"-1", b"nan", b"inf", b"1e309", b"\xff", b"", b"abc", b"1 2", b"9" * 400)
    found = [
        Row(
            28,
            f"a deadline of {value[:10]!r}",
            partial(post, BODY, header % value),
            (200,),
        )
        for value in values
    ]
    found.append(
        Row(28, "no watch", lambda: post(BODY, b"x-request-disconnect-disabled: ?1\r\n"), (200,))
    )
    late = b'{"seconds": 2}'
    found.append(
        Row(
            34,
            "a deadline that passes at work",
            lambda: post(late, header % b"0.2", path=WAIT),
            (504,),
            code="deadline_exceeded",
        )
    )
    return found


PART = b'--b\r\ncontent-disposition: form-data; name="n%d"\r\n\r\n1\r\n'


def _media() -> list[Row]:
    """23: content types, and forms."""

    def form(body: bytes, boundary: bytes = b"b") -> bytes:
        return post(body, media=b"content-type: multipart/form-data; boundary=%b\r\n" % boundary)

    return [
        Row(23, "none", lambda: post(BODY, media=b""), (200,)),
        Row(
            23,
            "another",
            lambda: post(BODY, media=b"content-type: text/plain\r\n"),
            (415,),
            code="unsupported_media_type",
        ),
        Row(23, "no type at all", lambda: post(BODY, media=b"content-type: \xff\r\n"), (415,)),
        Row(23, "twice", lambda: post(BODY, JSON), (200,)),
        Row(23, "a form without an end", lambda: form(b"--b\r\n"), (400,)),
        Row(23, "a boundary of 10,000", lambda: form(BODY, b"x" * 10_000), (400,)),
        Row(23, "a boundary of 60,000", lambda: form(BODY, b"x" * 60_000), (400,)),
        Row(23, "no boundary", lambda: form(BODY, b""), (400,)),
        Row(
            23,
            "2,000 parts",
            lambda: form(b"".join(PART % n for n in range(2000)) + b"--b--\r\n"),
            (413,),
        ),
        Row(
            23,
            "percent signs",
            lambda: post(
                b"values=" + b"%" * 90_000,
                media=b"content-type: application/x-www-form-urlencoded\r\n",
            ),
            (400,),
        ),
    ]


ROWS: list[Row] = [
    *_limits(),
    Row(2, "10 GiB that never come", lambda: LAST.replace(b"length: 15", b"length: 10737418240")[:-15], (413,), code="too_large", is_unsent=True),
    *_codings(),
    Row(5, "a byte a chunk", lambda: in_chunks(b" " * 50_000 + BODY, 1), (200,)),
    Row(5, "100,000 chunks", lambda: in_chunks(b" " * 99_900 + BODY, 1), (400,), (200,)),
    # HAProxy waits until a chunk's line is whole, and for 30 s
    Row(5, "an extension of 1 MiB", lambda: in_chunks(BODY, 15, extension=b";x=" + b"a" * (1 << 20)), (400,), (408,)),
    Row(5, "a trailer of 1 MiB", lambda: in_chunks(BODY, 15, trailers=b"x: %b\r\n" % (b"a" * (1 << 20))), (400,)),
    Row(5, "trailers of 1 MiB", lambda: in_chunks(BODY, 15, trailers=b"x: a\r\n" * 175_000), (400,)),
    Row(8, "10,000 headers", lambda: post(BODY, *(b"x-%d: 1\r\n" % n for n in range(10_000))), (200,), (400,)),
    Row(8, "100,000 headers", lambda: post(BODY, *(b"x-%d: 1\r\n" % n for n in range(100_000))), (431,), (400,)),
    Row(8, "a header of 1 MiB", lambda: post(BODY, b"x: %b\r\n" % (b"a" * (1 << 20))), (431,), (400,)),
    Row(8, "a URL of 64 KiB", lambda: get("/" + "a" * 65_536), (400,)),
    Row(8, "a URL of 1 MiB", lambda: get("/" + "a" * (1 << 20)), (431,), (400,)),
    *_methods(),
    Row(
        10,
        "good, bad, good",
        lambda: GOOD + post(b"{bad}", last=False) + LAST,
        (200, 400, 200),
    ),
    Row(10, "good, what is no HTTP, good", lambda: GOOD + b"\x16\x03\x01 x\r\n\r\n" + LAST, (200, 400)),
    Row(6, "the preface of HTTP/2", lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,), (400, 400)),
    Row(10, "100 at once", lambda: GOOD * 99 + LAST, (200,) * 100),
    *_media(),
    *_names(),
    Row(27, "an escape in an id", lambda: post(BODY, b"x-request-id: a\x1b[31m\r\n"), (400,), (200,)),
    Row(27, "an id with another line", lambda: post(BODY, b"x-request-id: a\nb\r\n"), (400,)),
    *_deadlines(),
    Row(30, "an address for a picture", lambda: post(b'{"image": "http://169.254.169.254/"}', path="/v2/models/sum"), (400,)),
    Row(30, "a file's address", lambda: post(b'{"image": "file:///etc/passwd"}', path="/v2/models/sum"), (400,)),
]  # fmt: skip

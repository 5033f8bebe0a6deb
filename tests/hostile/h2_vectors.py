"""Requests by HTTP/2 that a program behind could read as other ones when they are written as
HTTP/1.1, and how many requests each is here.

Behind each comes a good request on the same connection, and another client's. A vector is *refused*:
its stream is reset, or answered with 400, and the good request is answered. Or it *ends* the
connection, and the good one is not answered either. Or it *is* one request: the function sees the
body that it says, and the good one is answered. Or it is *passed on* as one, which what is behind may
refuse. Or it is *either* refused or one: releases of HAProxy that are taken differ. Nothing else may
come of it: no second answer, no call that a function sees and no client has made.

Sources: RFC 9113, sections 5.1, 6, 8.1 to 8.3 and 10.3; PortSwigger's "HTTP/2: The Sequel is Always
Worse" and its tables of header injections; HAProxy's and nghttp2's own tests of damaged heads.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from tests.hostile.h2_exchanges import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    Field,
    block,
    exchange_frames,
    frame,
    request,
)
from tests.hostile.targets import SEEN
from tests.hostile.vectors import HIDDEN


class H2Fate(Enum):
    """What comes of a vector."""

    REFUSED = "refused"
    ENDED = "ends the connection"
    ONE = "one request"
    PASSED = "passed on as one"
    EITHER = "refused, or one request"


REFUSED, ENDED, ONE, PASSED, EITHER = H2Fate

FIRST, NEXT = 1, 3
"""Streams: the vector's, and the good one's behind it."""

BODY = b"0123456789"

PATH = SEEN.encode()
"""Of a server that has the function elsewhere it is replaced, by one that is as long."""

CHUNKED = b"0\r\n\r\n" + HIDDEN
"""A body that ends at once for what believes that it comes in chunks, with a request behind it."""


class H2Server(Protocol):
    """What vectors are sent to.

    Attributes:
        port: that clients connect to.
        context: with what they trust it.
        path: of a function that notes marker and body of each of its calls; as long as ``PATH``.
    """

    @property
    def port(self) -> int: ...
    @property
    def context(self) -> ssl.SSLContext: ...
    @property
    def path(self) -> str: ...

    def seen(self) -> list[tuple[str, bytes]]:
        """Marker and body of each call that has reached the function."""


def fields(
    *more: Field,
    marker: bytes = b"first",
    method: bytes | None = b"POST",
    scheme: bytes | None = b"https",
    path: bytes | None = PATH,
    authority: bytes | None = b"t",
    before: Sequence[Field] = (),
) -> list[Field]:
    """The fields of a request; a pseudo header that is None is left out.

    Args:
        more: behind all others.
        before: before the fields that are no pseudo headers.
    """
    pseudo = (
        (b":method", method),
        (b":scheme", scheme),
        (b":path", path),
        (b":authority", authority),
    )
    ours = [(b"content-type", b"application/octet-stream"), (b"x-marker", marker)]
    said = [(name, value) for name, value in pseudo if value is not None]
    return [*said, *before, *ours, *more]


def plain(*more: Field, body: bytes = BODY, **pseudo: Any) -> bytes:
    """A request with these fields and this body, in one frame.

    Args:
        pseudo: as of ``fields``.
    """
    return request(FIRST, fields(*more, **pseudo), body)


def sized(said: bytes, *parts: bytes) -> bytes:
    """A request that says how long its body is."""
    return request(FIRST, fields((b"content-length", said)), *parts)


def with_trailers(*trailers: Field) -> bytes:
    """A request with trailers."""
    head = frame(HEADERS, END_HEADERS, FIRST, block(fields()))
    data = frame(DATA, 0, FIRST, BODY)
    return head + data + frame(HEADERS, END_HEADERS | END_STREAM, FIRST, block(trailers))


@dataclass(frozen=True)
class H2Vector:
    """Some frames, and what comes of them.

    Attributes:
        body: that the function sees.
        marker: that it sees.
    """

    name: str
    frames: bytes
    fate: H2Fate = REFUSED
    body: bytes = BODY
    marker: str = "first"

    def check(self, server: H2Server) -> None:
        """Send it with the good request behind it, then another client's: each gets its own answer
        or none, and the function has seen what was answered and nothing else.
        """
        path, before = server.path.encode(), len(server.seen())
        assert len(path) == len(PATH)
        good = request(NEXT, fields(marker=b"next"), b"next")
        data = (self.frames + good).replace(PATH, path)
        found = exchange_frames(server.port, server.context, data, (FIRST, NEXT))
        canary = request(FIRST, fields(marker=b"canary"), b"canary").replace(PATH, path)
        other = exchange_frames(server.port, server.context, canary, (FIRST,))
        first, behind = found.of(FIRST), found.of(NEXT)
        expected: list[tuple[str, bytes]] = []
        if self.fate in (ONE, PASSED) or (self.fate is EITHER and first.status == 200):
            assert first.is_whole, str(found)
            assert first.status == 200 or self.fate is PASSED, str(found)
        else:
            assert first.status in (0, 400), str(found)
        if first.status == 200:
            expected.append((self.marker, self.body.replace(PATH, path)))
        if self.fate is ENDED:
            assert found.is_closed, str(found)
            assert behind.status == 0, str(found)
        else:
            assert (behind.status, behind.is_whole) == (200, True), str(found)
            expected.append(("next", b"next"))
        assert {one.heads for one in found.streams.values()} <= {0, 1}, str(found)
        assert found.streams.keys() <= {FIRST, NEXT}, str(found)
        assert other.of(FIRST).status == 200, str(other)
        seen = server.seen()[before:]
        # streams are answered side by side
        assert sorted(seen) == sorted([*expected, ("canary", b"canary")]), str(found)


WHOLE = block(fields())

INJECTED = b"x\r\ntransfer-encoding: chunked"

H2_VECTORS = [
    H2Vector("a good one", plain(), ONE),
    # lengths that do not fit (8.1.1)
    H2Vector("CL: right", sized(b"10", BODY), ONE),
    H2Vector("CL: right, in parts", sized(b"10", BODY[:3], BODY[3:]), ONE),
    H2Vector("CL: shorter than the body", sized(b"4", BODY)),
    H2Vector("CL: shorter, a request behind it", sized(b"0", HIDDEN)),
    H2Vector("CL: longer than the body", sized(b"99", BODY)),
    H2Vector("CL: without a body", sized(b"10")),
    H2Vector("CL: longer, in parts", sized(b"99", BODY[:3], BODY[3:])),
    *(
        H2Vector(f"CL: {name}", sized(text, BODY))
        for name, text in {
            "a plus": b"+10",
            "a minus": b"-10",
            "a list of two": b"10, 11",
            "hex": b"0xa",
            "letters behind": b"10a",
            "a fraction": b"10.0",
            "nothing": b"",
            "more than 64 bits": b"18446744073709551626",
        }.items()
    ),
    H2Vector("CL: twice, of two lengths", plain((b"content-length", b"10"), (b"content-length", b"11"))),
    H2Vector("CL: twice, of one length", plain((b"content-length", b"10"), (b"content-length", b"10")), ONE),
    # codings (8.2.2)
    *(
        H2Vector(f"TE: {name}", plain((b"transfer-encoding", text), body=CHUNKED))
        for name, text in {
            "chunked": b"chunked",
            "identity": b"identity",
            "in capitals": b"CHUNKED",
            "a list": b"gzip, chunked",
            "nothing": b"",
        }.items()
    ),
    H2Vector("TE: chunked, with a length", plain((b"content-length", b"%d" % len(CHUNKED)), (b"transfer-encoding", b"chunked"), body=CHUNKED)),
    H2Vector("te: trailers", plain((b"te", b"trailers")), ONE),
    H2Vector("te: gzip", plain((b"te", b"gzip"))),
    H2Vector("te: trailers, chunked", plain((b"te", b"trailers, chunked"))),
    # headers of a connection (8.2.2)
    *(
        H2Vector(f"{name.decode()}: {text.decode()}", plain((name, text)))
        for name, text in (
            (b"connection", b"close"),
            (b"connection", b"content-length"),
            (b"keep-alive", b"timeout=1"),
            (b"proxy-connection", b"close"),
            (b"upgrade", b"h2c"),
            (b"upgrade", b"websocket"),
        )
    ),
    # pseudo headers (8.3)
    *(
        H2Vector(f"{name.decode()} twice: {value.decode()}", plain(before=[(name, value)]))
        for name, value in (
            (b":path", PATH),
            (b":path", b"/"),
            (b":method", b"POST"),
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"u"),
        )
    ),
    H2Vector("a pseudo header behind others", plain((b":path", b"/"))),
    H2Vector(":path behind others", plain((b":path", PATH), path=None)),
    H2Vector("an unknown pseudo header", plain(before=[(b":more", b"1")])),
    H2Vector("a pseudo header of answers", plain(before=[(b":status", b"200")])),
    H2Vector("no name behind the colon", plain(before=[(b":", b"1")])),
    H2Vector("no :method", plain(method=None)),
    H2Vector("no :path", plain(path=None)),
    H2Vector("no :scheme", plain(scheme=None)),
    H2Vector("no :authority and no host", plain(authority=None), PASSED),
    H2Vector("host in the place of :authority", plain((b"host", b"t"), authority=None), ONE),
    H2Vector("host as :authority", plain((b"host", b"t")), ONE),
    H2Vector("another host than :authority", plain((b"host", b"u")), ONE),
    H2Vector("two hosts", plain((b"host", b"t"), (b"host", b"u"), authority=None), ONE),
    # 2.8.21 leaves it out, 2.8.25 refuses it
    H2Vector(":protocol (RFC 8441)", plain(before=[(b":protocol", b"websocket")]), EITHER),
    *(
        H2Vector(f":method: {name}", plain(method=text))
        for name, text in {
            "nothing": b"",
            "a space": b"POST / HTTP/1.1",
            "an end of line": b"POST / HTTP/1.1\r\nx: ",
            "a NUL": b"PO\0ST",
            "a colon": b"PO:ST",
        }.items()
    ),
    H2Vector("CONNECT", plain(method=b"CONNECT", scheme=None, path=None), PASSED),
    H2Vector("CONNECT with a path", plain(method=b"CONNECT")),
    *(
        H2Vector(f":path: {name}", plain(path=text))
        for name, text in {
            "nothing": b"",
            "a space": PATH + b" HTTP/1.1",
            "a space at its end": PATH + b" ",
            "an end of line": PATH + b" HTTP/1.1\r\nhost: u\r\n\r\n",
            "a line feed": PATH + b"\nx: y",
            "a carriage return": PATH + b"\rx: y",
            "a NUL": PATH + b"\0",
            "a tab": PATH + b"\t",
            "DEL": PATH + b"\x7f",
            "a fragment": PATH + b"#x",
            "no slash": PATH[1:],
            "another server's": b"http://u/",
            "a request": HIDDEN,
        }.items()
    ),
    H2Vector(":path: a letter that is no ASCII", plain(path=PATH + b"\xc3\xa4"), PASSED),
    H2Vector(":path: an asterisk", plain(path=b"*"), PASSED),
    *(
        H2Vector(f":scheme: {name}", plain(scheme=text))
        for name, text in {
            "nothing": b"",
            "a path": b"https://u/x?",
            "an end of line": b"https\r\nx: y",
            "a space": b"https x",
        }.items()
    ),
    *(
        H2Vector(f":authority: {name}", plain(authority=text))
        for name, text in {
            "an end of line": b"t\r\ntransfer-encoding: chunked",
            "a space": b"t u",
            "a NUL": b"t\0u",
            "a path": b"t/u",
        }.items()
    ),
    # names and values (8.2.1)
    *(
        H2Vector(f"a name with {name}", plain((text, b"1")))
        for name, text in {
            "a capital": b"X-a",
            "capitals: Content-Length": b"Content-Length",
            "capitals: TRANSFER-ENCODING": b"TRANSFER-ENCODING",
            "a colon": b"x:a",
            "a colon at its end": b"transfer-encoding:",
            "an end of line": b"x: y\r\ntransfer-encoding",
            "a line feed": b"x\ny",
            "a space": b"transfer-encoding ",
            "a space before": b" transfer-encoding",
            "a tab": b"x\ta",
            "a NUL": b"x\0a",
            "a bracket": b"x(a)",
            "a letter that is no ASCII": b"x\xc3\xa4",
        }.items()
    ),
    H2Vector("a header without a name", plain((b"", b"1")), ENDED),
    *(
        H2Vector(f"a value with {name}", plain((b"x-a", text)))
        for name, text in {
            "an end of line": INJECTED,
            "a line feed": b"x\ntransfer-encoding: chunked",
            "a carriage return": b"x\rtransfer-encoding: chunked",
            "a NUL": b"x\0y",
            "an end of line at its end": b"x\r\n",
            "a request": b"x\r\n\r\n" + HIDDEN,
        }.items()
    ),
    H2Vector("a value with a tab", plain((b"x-a", b"x\ty")), ONE),
    H2Vector("a content-type with an end of line", plain(before=[(b"content-type", INJECTED)])),
    H2Vector("an underscore: content_length", plain((b"content_length", b"3")), ONE),
    H2Vector("a cookie in crumbs", plain((b"cookie", b"a=1"), (b"cookie", b"b=2")), ONE),
    H2Vector("a request as its body", plain(body=HIDDEN), ONE, body=HIDDEN),
    H2Vector("Expect", plain((b"expect", b"100-continue")), ONE),
    # trailers (8.1)
    H2Vector("trailers that name headers", with_trailers((b"x-marker", b"late"), (b"x-request-id", b"u")), ONE),
    H2Vector("a host as a trailer", with_trailers((b"host", b"u"))),
    H2Vector("a length as a trailer", with_trailers((b"content-length", b"99"))),
    H2Vector("a coding as a trailer", with_trailers((b"transfer-encoding", b"chunked"))),
    H2Vector("a pseudo header as a trailer", with_trailers((b":path", b"/"))),
    H2Vector("a trailer with an end of line", with_trailers((b"x-a", b"x\r\n\r\n" + HIDDEN))),
    H2Vector("a trailer with a capital", with_trailers((b"X-a", b"1"))),
    H2Vector(
        "trailers that do not end the stream",
        frame(HEADERS, END_HEADERS, FIRST, WHOLE)
        + frame(DATA, 0, FIRST, BODY)
        + frame(HEADERS, END_HEADERS, FIRST, block([(b"x-a", b"1")]))
        + frame(DATA, END_STREAM, FIRST, HIDDEN),
        ENDED,
    ),
    # frames (5.1, 6)
    H2Vector("a body behind the end", plain() + frame(DATA, END_STREAM, FIRST, HIDDEN)),
    H2Vector("a second head behind the end", plain() + plain(marker=b"hidden"), ENDED),
    H2Vector("a stream of even number", request(2, fields(marker=b"hidden"), b"hidden"), ENDED),
    H2Vector("a body without a head", frame(DATA, END_STREAM, FIRST, HIDDEN), ENDED),
    H2Vector("a head on no stream", request(0, fields(), BODY), ENDED),
    H2Vector("a body within a head", frame(HEADERS, 0, FIRST, WHOLE) + frame(DATA, END_STREAM, FIRST, HIDDEN), ENDED),
    H2Vector("another stream within a head", frame(HEADERS, 0, FIRST, WHOLE) + request(5, fields(marker=b"hidden"), b"hidden"), ENDED),
    H2Vector(
        "a head in two",
        frame(HEADERS, 0, FIRST, WHOLE[:20])
        + frame(CONTINUATION, END_HEADERS, FIRST, WHOLE[20:])
        + frame(DATA, END_STREAM, FIRST, BODY),
        ONE,
    ),
    H2Vector("more padding than there is", frame(HEADERS, END_HEADERS | END_STREAM | PADDED, FIRST, b"\xff" + WHOLE), ENDED),
    H2Vector("a head that HPACK does not know", frame(HEADERS, END_HEADERS | END_STREAM, FIRST, b"\xff" * 6), ENDED),
    H2Vector("HTTP/1.1 behind the preface", HIDDEN, ENDED),
]  # fmt: skip

"""Requests that two programs could read as different ones, and how many requests each is here.

Behind each comes a good request on the same connection. A vector is *refused*: one answer of 400,
the connection ends and the good request is not answered. Or it *is* one request: the function sees
its body, and the good one is answered behind it. Or it is the *last*: the function sees its body,
and the connection ends. Or HAProxy reads it, and the process behind refuses it *alone*: the good one
is answered. Nothing else may come of it: no second answer to it, no answer to what
stands in its body, no call that a function sees and no client has made.

Sources: RFC 9112; PortSwigger's and Gunicorn's lists of what was smuggled; HTTP Garden; the tests
of h11 and llhttp.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import Enum

from tests.hostile.exchanges import exchange
from tests.hostile.targets import SEEN, Target


class Fate(Enum):
    """What comes of a vector."""

    REFUSED = "refused"
    ONE = "one request"
    LAST = "the last request"
    ALONE = "refused by itself"


REFUSED, ONE, LAST, ALONE = Fate

HEAD = (
    f"POST {SEEN} HTTP/1.1\r\nhost: t\r\ncontent-type: application/octet-stream\r\n"
    "x-marker: first\r\n"
).encode()
NEXT = (
    f"POST {SEEN} HTTP/1.1\r\nhost: t\r\ncontent-type: application/octet-stream\r\n"
    "x-marker: next\r\nconnection: close\r\ncontent-length: 4\r\n\r\nnext"
).encode()
GOOD = ("next", b"next")
CANARY = NEXT.replace(b"content-length: 4", b"content-length: 6").replace(b"next", b"canary")
BODY = b"0123456789"
HIDDEN = (
    f"POST {SEEN} HTTP/1.1\r\nhost: t\r\ncontent-type: application/octet-stream\r\n"
    "x-marker: hidden\r\ncontent-length: 6\r\n\r\nhidden"
).encode()
"""A request that must not be read as one."""

TE = b"transfer-encoding: chunked\r\n"


def length(count: int | bytes) -> bytes:
    """The header of a body's length."""
    return b"content-length: %b\r\n" % (count if isinstance(count, bytes) else b"%d" % count)


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    """A body in chunks."""
    sized = (b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"".join([*sized, b"0\r\n", trailers, b"\r\n"])


def chunk(size: bytes, data: bytes = BODY, end: bytes = b"\r\n") -> bytes:
    """A request whose first chunk has this line."""
    return HEAD + TE + b"\r\n" + size + b"\r\n" + data + end + b"0\r\n\r\n"


def plain(*headers: bytes, body: bytes = BODY) -> bytes:
    """A request with a length and further headers."""
    return HEAD + b"".join(headers) + length(len(body)) + b"\r\n" + body


def lined(line: bytes, *headers: bytes, body: bytes = BODY) -> bytes:
    """A request with a length and this first line."""
    rest = HEAD.partition(b"\r\n")[2]
    return line + b"\r\n" + rest + b"".join(headers) + length(len(body)) + b"\r\n" + body


@dataclass(frozen=True)
class Vector:
    """Some bytes, and what comes of them.

    Attributes:
        fate: where the process reads them itself.
        haproxy: where HAProxy reads them first and passes on what it has read, written anew; None:
            the same. It is more lenient than the process.
        body: that the function sees.
        haproxy_body: that it sees behind HAProxy; None: the same.
    """

    name: str
    data: bytes
    fate: Fate = REFUSED
    haproxy: Fate | None = None
    body: bytes = BODY
    haproxy_body: bytes | None = None

    def check(self, target: Target, port: int = 0, *, in_two: bool = False) -> None:
        """Send it with the good request behind it, then another client's request: each gets its own
        answer or none, and the functions have seen what was answered and nothing else.

        Args:
            port: of a process past HAProxy; 0: the one that clients have.
            in_two: whether it is cut.
        """
        is_past_haproxy = bool(port) or not target.is_behind_haproxy
        fate, body = self.fate, self.body
        if not is_past_haproxy:
            fate = self.haproxy or fate
            body = body if self.haproxy_body is None else self.haproxy_body
        data, before = self.data + NEXT, len(target.seen())
        cuts = (data[: len(data) // 2], data[len(data) // 2 :]) if in_two else (data,)
        found = exchange(port or target.port, *cuts)
        other = exchange(port or target.port, CANARY)
        first = ("first", body)
        seen = {REFUSED: [], ALONE: [GOOD], LAST: [first], ONE: [first, GOOD]}[fate]
        refused = [400] if fate in (REFUSED, ALONE) else []
        # HAProxy says 422 of a coding that it does not know, and under `up` 404 of no path
        statuses = [400 if status in (404, 422) else status for status in found.statuses]
        assert statuses == [*refused, *[200] * len(seen)], str(found)
        assert (found.rest, found.is_closed) == (b"", True), str(found)
        for answer, (marker, content) in zip(found.answers[len(refused) :], seen, strict=True):
            assert answer.json == {"marker": marker, "body": base64.b64encode(content).decode()}
        if fate is REFUSED and is_past_haproxy:
            (error,) = found.answers
            assert (error.json["code"], error.json["where"]) == ("bad_request", ""), str(found)
            assert error.headers["connection"] == "close"
        assert other.statuses == [200], str(other)
        assert other.answers[0].json["marker"] == "canary"
        assert target.seen()[before:] == [*seen, ("canary", b"canary")]


PATH = SEEN.encode()
CONTAINED = b"0\r\n\r\n" + HIDDEN

VECTORS = [
    # lengths and chunks at once
    Vector("CL.TE", HEAD + length(len(CONTAINED)) + TE + b"\r\n" + CONTAINED, haproxy=LAST, haproxy_body=b""),
    Vector("CL.TE, whole chunks", HEAD + length(25) + TE + b"\r\n" + chunks(BODY), haproxy=LAST),
    Vector("TE.CL", HEAD + TE + length(3) + b"\r\n" + chunks(HIDDEN), haproxy=LAST, haproxy_body=HIDDEN),
    Vector("CL.TE in capitals", HEAD + length(25) + TE.upper() + b"\r\n" + chunks(BODY), haproxy=LAST),
    # obfuscated codings
    *(
        Vector(f"TE.TE: {name}", HEAD + coding + length(len(CONTAINED)) + b"\r\n" + CONTAINED)
        for name, coding in {
            "xchunked": b"transfer-encoding: xchunked\r\n",
            "chunked, identity": b"transfer-encoding: chunked, identity\r\n",
            "identity, chunked": b"transfer-encoding: identity, chunked\r\n",
            "chunked, chunked": b"transfer-encoding: chunked, chunked\r\n",
            "chunked, then x": b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
            "x, then chunked": b"transfer-encoding: x\r\ntransfer-encoding: chunked\r\n",
            "a vertical tab": b"transfer-encoding: \x0bchunked\r\n",
            "quotes": b'transfer-encoding: "chunked"\r\n',
            "a space in the name": b"transfer -encoding: chunked\r\n",
            "a space before the colon": b"transfer-encoding : chunked\r\n",
            "a tab before the colon": b"transfer-encoding\t: chunked\r\n",
            "a bare CR before the name": b"x-a: b\rtransfer-encoding: chunked\r\n",
            "a NUL behind the name": b"transfer-encoding\0: chunked\r\n",
            "nothing": b"transfer-encoding:\r\n",
            "a parameter": b"transfer-encoding: chunked;q=1\r\n",
        }.items()
    ),
    *(
        Vector(f"TE.TE: {name}", HEAD + coding + length(len(CONTAINED)) + b"\r\n" + CONTAINED, haproxy=LAST, haproxy_body=b"")
        for name, coding in {
            "a fold": b"transfer-encoding:\r\n chunked\r\n",
            "a bare LF before the name": b"x-a: b\ntransfer-encoding: chunked\r\n",
        }.items()
    ),
    Vector(
        "TE.TE: a space before the name",
        HEAD + b"x-a: b\r\n transfer-encoding: chunked\r\n" + length(len(CONTAINED)) + b"\r\n" + CONTAINED,
        haproxy=ONE,
        haproxy_body=CONTAINED,
    ),
    Vector("TE: a tab before the coding", HEAD + TE.replace(b" ", b"\t") + b"\r\n" + chunks(BODY), ONE),
    Vector("TE: chunked with spaces behind", HEAD + TE.replace(b"\r", b" \t\r") + b"\r\n" + chunks(BODY), haproxy=ONE),
    Vector("TE: gzip, chunked", HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n" + chunks(BODY)),
    Vector("TE of HTTP/1.0", chunk(b"a").replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
    Vector(
        "TE of HTTP/1.0 kept alive",
        chunk(b"a").replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nconnection: keep-alive\r\n", 1),
    ),
    # lengths
    Vector("two lengths", HEAD + length(10) + length(11) + b"\r\n" + BODY),
    Vector("one length twice", HEAD + length(10) + length(10) + b"\r\n" + BODY, haproxy=ONE),
    *(
        Vector(f"CL: {name}", HEAD + length(text) + b"\r\n" + BODY)
        for name, text in {
            "a plus": b"+10",
            "a minus": b"-10",
            "a space within": b"1 0",
            "a list": b"10, 11",
            "a fraction": b"10.0",
            "hex": b"0xa",
            "an underscore": b"1_0",
            "letters behind": b"10a",
            "a full-width digit": b"\xef\xbc\x91\xef\xbc\x90",
            "more than 64 bits": b"18446744073709551626",
            "nothing": b"",
        }.items()
    ),
    Vector("CL: one length in a list", HEAD + length(b"10, 10") + b"\r\n" + BODY, haproxy=ONE),
    Vector("CL: leading zeros", HEAD + length(b"00000000000000000010") + b"\r\n" + BODY, ONE),
    Vector("CL: spaces behind", HEAD + length(b"10 \t ") + b"\r\n" + BODY, ONE),
    Vector("CL: a space before the colon", HEAD + b"content-length : 10\r\n\r\n" + BODY),
    Vector("CL with an underscore in its name", HEAD + b"content_length: 3\r\n" + length(10) + b"\r\n" + BODY, ONE),
    # lines
    Vector("a folded header", plain(b"x-a: b\r\n c\r\n"), haproxy=ONE),
    Vector("bare line feeds", plain().replace(b"\r\n", b"\n"), haproxy=ONE),
    Vector("a bare LF ends the head", HEAD + length(10) + b"\n" + BODY, haproxy=ONE),
    Vector("a bare CR in a value", plain(b"x-a: b\rc\r\n")),
    Vector("CR CR LF", plain(b"x-a: b\r\r\n")),
    Vector("a NUL in a value", plain(b"x-a: b\0c\r\n")),
    Vector("a NUL in a name", plain(b"x\0a: b\r\n")),
    Vector("a header without a name", plain(b": b\r\n")),
    Vector("a header without a colon", plain(b"x-a\r\n")),
    Vector("a space in a name", plain(b"x a: b\r\n")),
    Vector("a bracket in a name", plain(b"x(a): b\r\n")),
    Vector("a letter that is no ASCII in a name", plain("x-ä: b\r\n".encode())),
    Vector("a space before the first header", plain().replace(b"\r\n", b"\r\n ", 1)),
    # chunks
    *(
        Vector(f"chunk: {name}", chunk(line))
        for name, line in {
            "0x": b"0xa",
            "a plus": b"+a",
            "a minus": b"-1",
            "a space before": b" a",
            "nothing": b"",
            "no digit": b"z",
            "17 digits": b"1000000000000000a",
            "a comma": b"a,b",
            "a NUL": b"a\0",
            "a bare CR": b"a\rx",
        }.items()
    ),
    Vector("chunk: hex in capitals", chunk(b"A"), ONE),
    Vector("chunk: leading zeros", chunk(b"00000000a"), ONE),
    Vector("chunk: an extension", chunk(b"a;x=1"), ONE),
    Vector("chunk: an extension in quotes", chunk(b'a;x="1;2"'), ONE),
    Vector("chunk: an extension with a bare LF", chunk(b"a;x\n")),
    Vector("chunk: a space behind", chunk(b"a "), haproxy=ONE),
    Vector("chunk: longer than it says", chunk(b"9")),
    Vector("chunk: shorter than it says", chunk(b"b")),
    Vector("chunk: no end of line behind", chunk(b"a", end=b"")),
    Vector("chunk: other bytes for its end of line", chunk(b"a", end=b"xx")),
    Vector("chunk: a bare LF behind", chunk(b"a", end=b"\n")),
    Vector("chunk: a bare LF behind its size", HEAD + TE + b"\r\na\n" + BODY + b"\r\n0\r\n\r\n"),
    Vector(
        "trailers that name headers",
        HEAD + TE + b"\r\n" + chunks(BODY, trailers=b"x-marker: late\r\nhost: u\r\n"),
        ONE,
    ),
    Vector("a trailer that closes", HEAD + TE + b"\r\n" + chunks(BODY, trailers=b"connection: close\r\n"), LAST, haproxy=ONE),
    Vector("a length as a trailer", HEAD + TE + b"\r\n" + chunks(BODY, trailers=b"content-length: 99\r\n"), haproxy=ALONE),
    Vector("a coding as a trailer", HEAD + TE + b"\r\n" + chunks(BODY, trailers=b"transfer-encoding: x\r\n")),
    Vector("a trailer without a name", HEAD + TE + b"\r\n" + chunks(BODY, trailers=b": b\r\n")),
    # request lines
    Vector("two hosts", plain(b"host: u\r\n")),
    Vector("one host twice", plain(b"host: t\r\n"), haproxy=ONE),
    Vector("the absolute form", lined(b"POST http://t%b HTTP/1.1" % PATH), ONE),
    Vector("the absolute form of another host", lined(b"POST http://u%b HTTP/1.1" % PATH)),
    Vector("a target that is no path", lined(b"POST v2/models/seen HTTP/1.1"), haproxy=ALONE),
    Vector("a space in the target", lined(b"POST %b HTTP/1.1" % PATH.replace(b"n", b"n x"))),
    Vector("a tab before the target", lined(b"POST\t%b HTTP/1.1" % PATH), haproxy=ONE),
    Vector("no version", lined(b"POST %b" % PATH)),
    Vector("HTTP/0.9", b"GET %b\r\n\r\n" % PATH),
    Vector("HTTP/0.9, said", lined(b"POST %b HTTP/0.9" % PATH)),
    Vector("HTTP/1.2", lined(b"POST %b HTTP/1.2" % PATH), haproxy=ONE),
    Vector("HTTP/2.0", lined(b"POST %b HTTP/2.0" % PATH), haproxy=ONE),
    Vector("another protocol", lined(b"POST %b HTTQ/1.1" % PATH)),
    Vector("small letters", lined(b"POST %b http/1.1" % PATH)),
    Vector("HTTP/2 without agreement", b"PRI * HTTP/2.0\r\n\r\n", haproxy=ALONE),
    Vector("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n"),
    Vector("an empty line before", b"\r\n" + plain(), ONE),
    # what changes how a connection goes on
    Vector("an upgrade to h2c", plain(b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"), ONE),
    Vector("an upgrade to h2c, a request as its body", plain(b"connection: upgrade\r\nupgrade: h2c\r\n", body=HIDDEN), ONE, body=HIDDEN),
    Vector("a request as its body", plain(body=HIDDEN), ONE, body=HIDDEN),
    Vector("Expect with an early body", plain(b"expect: 100-continue\r\n"), ONE),
    Vector("Expect in HTTP/1.0", plain(b"expect: 100-continue\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1), LAST),
    Vector("Expect of something else", plain(b"expect: 101-x\r\n"), ONE),
    Vector("close, and a request behind", plain(b"connection: close\r\n"), LAST),
    Vector("a header of ours that Connection names", plain(b"connection: content-length, x-marker\r\n"), ONE),
    Vector("HTTP/1.0", plain().replace(b"HTTP/1.1", b"HTTP/1.0", 1), LAST),
]  # fmt: skip

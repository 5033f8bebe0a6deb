"""Frames of HTTP/2 on a connection of TLS that no client library would send, and all that is
answered to them. What writes frames here checks nothing; what reads them is `hpack` and
`hyperframe`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import hpack
from hyperframe import frame as frames

from tests.hostile.exchanges import WAIT_S

Field = tuple[bytes, bytes]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RESET, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
"""Types of frames (RFC 9113, section 6)."""

END_STREAM, END_HEADERS, PADDED = 1, 4, 8
"""Flags."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame as it is said."""
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


def block(fields: Sequence[Field]) -> bytes:
    """Header fields as HPACK has them, whatever they are: each a literal that is not remembered, so
    one block says nothing of another.
    """
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(text: bytes) -> bytes:
    """A string without Huffman's code, its length in 7 bits and more (RFC 7541, 5.1)."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, written = len(text) - 127, bytearray(b"\x7f")
    while rest >= 128:
        written.append(rest % 128 + 128)
        rest //= 128
    written.append(rest)
    return bytes(written) + text


def request(stream: int, fields: Sequence[Field], *parts: bytes) -> bytes:
    """The frames of a request: its head, and its body in these parts."""
    ends = 0 if parts else END_STREAM
    head = frame(HEADERS, END_HEADERS | ends, stream, block(fields))
    last = len(parts) - 1
    return head + b"".join(
        frame(DATA, END_STREAM if number == last else 0, stream, part)
        for number, part in enumerate(parts)
    )


@dataclass
class StreamAnswer:
    """What came of one stream.

    Attributes:
        status: of its answer; 0: there was none.
        heads: how many answers there were.
        is_whole: the answer has come to its end.
        resets: how often it was reset.
    """

    status: int = 0
    body: bytes = b""
    is_whole: bool = False
    resets: int = 0
    heads: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.is_whole or bool(self.resets)


@dataclass
class H2Exchange:
    """What came of some frames.

    Attributes:
        streams: by number, those of which the server said something.
        is_closed: the server has ended the connection.
    """

    streams: dict[int, StreamAnswer] = field(default_factory=dict)
    is_closed: bool = False

    def of(self, stream: int) -> StreamAnswer:
        """What came of a stream, which may be nothing."""
        return self.streams.get(stream, StreamAnswer())

    def __str__(self) -> str:
        said = {
            number: (one.status, one.body[:200], "reset" if one.resets else "")
            for number, one in self.streams.items()
        }
        return f"{said}, {'closed' if self.is_closed else 'open'}"


def exchange_frames(
    port: int,
    context: ssl.SSLContext,
    data: bytes,
    until: Sequence[int],
    wait_s: float = WAIT_S,
) -> H2Exchange:
    """Send these bytes behind the preface, and read until these streams are over, or the connection
    is.
    """
    context.set_alpn_protocols(["h2"])
    found, reader = H2Exchange(), hpack.Decoder()
    received = b""
    plain = socket.create_connection(("127.0.0.1", port), timeout=wait_s)
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        with suppress(OSError):
            client.sendall(PREFACE + frame(SETTINGS, 0, 0) + data)
        try:
            while not all(found.of(stream).is_over for stream in until):
                if not (chunk := client.recv(1 << 16)):
                    found.is_closed = True
                    break
                received = _read(received + chunk, found, reader)
        except ConnectionError:
            found.is_closed = True
        except ssl.SSLError:  # cut off, without TLS's own end
            found.is_closed = True
        except TimeoutError:
            pass
    return found


def _read(data: bytes, found: H2Exchange, reader: hpack.Decoder) -> bytes:
    """Take whole frames, and return what is behind the last one."""
    while len(data) >= 9:
        one, length = frames.Frame.parse_frame_header(memoryview(data[:9]))
        if len(data) < 9 + length:
            break
        one.parse_body(memoryview(data[9 : 9 + length]))
        data = data[9 + length :]
        if not one.stream_id:
            continue
        answer = found.streams.setdefault(one.stream_id, StreamAnswer())
        if isinstance(one, frames.HeadersFrame):
            assert "END_HEADERS" in one.flags
            fields = dict(reader.decode(one.data, raw=True))
            status = int(fields.get(b":status", b"0"))
            if status >= 200:  # no interim answer, and no trailers
                answer.heads += 1
                answer.status = status
        elif isinstance(one, frames.DataFrame):
            answer.body += one.data
        elif isinstance(one, frames.RstStreamFrame):
            # behind a whole answer it says that the rest of the request is not wanted (8.1)
            answer.resets += not answer.is_whole
        if "END_STREAM" in one.flags:
            answer.is_whole = True
    return data

"""Sends calls as the bytes they are, and reads each answer with nothing forgiven: a client library
would put right what is looked for here.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import Final

from loadtests.fuzz.calls import FuzzCall
from loadtests.server import HOST

ANSWER_S: Final = 150.0
"""Longest wait for an answer; beyond the functions' own deadline."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
_NO_BODY: Final = (204, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: 0: there was none.
        headers: names in lower case; of one that stands twice, the last.
        error: what was wrong with how it came; empty: nothing.
    """

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""


class Malformed(Exception):
    """An answer that is not as HTTP has it."""


class Connection:
    """One connection at a time, kept alive as long as the server keeps it.

    Mutable state: ``_socket`` and ``_read`` (what was read beyond the last answer).
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._read = b""

    def close(self) -> None:
        """From this side."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def ask(self, call: FuzzCall) -> Answer:
        """The answer to a call; on a new connection if the one that was kept has ended
        meanwhile.
        """
        data = call.wire()
        is_kept = self._socket is not None
        answer = self._exchange(call, data)
        # what a server closes between two calls, it has not read
        return self._exchange(call, data) if is_kept and answer.error == "no answer" else answer

    def _exchange(self, call: FuzzCall, data: bytes) -> Answer:
        try:
            if self._socket is None:
                self._socket = socket.create_connection((HOST, self._port), ANSWER_S)
            sent = ""
            try:
                self._socket.sendall(data)
            except OSError:  # refused before it was read; the answer may be there
                sent = "not read whole"
            answer = self._answer(call)
        except Malformed as error:
            self.close()
            return Answer(error=str(error))
        except TimeoutError:
            self.close()
            return Answer(error=f"no answer in {ANSWER_S:g} s")
        except OSError:
            self.close()
            return Answer(error="no answer")
        if sent or b"close" in answer.headers.get(b"connection", b"").lower():
            self.close()
        elif self._read:
            self.close()
            return Answer(answer.status, answer.headers, answer.body, "more than one answer")
        return answer

    def _answer(self, call: FuzzCall) -> Answer:
        status = 100
        while 100 <= status < 200:
            line = self._line()
            found = _STATUS.fullmatch(line)
            if found is None:
                raise Malformed(f"a status line of {line[:80]!r}")
            status, headers = int(found[1]), self._headers()
        is_whole = call.method == b"HEAD" or status in _NO_BODY
        return Answer(status, headers, b"" if is_whole else self._body(headers))

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = b""
            while size := int(self._line().split(b";")[0], 16):
                body += self._bytes(size)
                self._line()
            while self._line() != b"\r\n":
                pass
            return body
        if (length := headers.get(b"content-length")) is not None:
            return self._bytes(int(length))
        body = self._read
        self._read = b""
        while more := self._receive():
            body += more
        self.close()
        return body

    def _headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        while (line := self._line()) != b"\r\n":
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise Malformed(f"a header of {line[:80]!r}")
            headers[name.lower()] = value.strip()
        return headers

    def _line(self) -> bytes:
        while b"\n" not in self._read:
            self._more()
        line, end, self._read = self._read.partition(b"\n")
        return line + end

    def _bytes(self, count: int) -> bytes:
        while len(self._read) < count:
            self._more()
        found, self._read = self._read[:count], self._read[count:]
        return found

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise ConnectionResetError
        self._read += data

    def _receive(self) -> bytes:
        if self._socket is None:
            raise ConnectionResetError
        return self._socket.recv(1 << 16)

"""HTTP/1.1 on a socket, as a client sees it without a client library."""

from __future__ import annotations

import json
import socket


class Wire:
    """One connection; requests are written as they are, and answers read one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, *requests: tuple[str, str, object]) -> None:
        """Method, path and JSON body of each, in one segment."""
        data = b""
        for method, path, content in requests:
            body = json.dumps(content).encode() if content is not None else b""
            data += (
                f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
        self._socket.sendall(data)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers["content-length"]))

    def ask(
        self, method: str, path: str, content: object = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request and its answer."""
        self.send((method, path, content))
        return self.read()

    def close(self) -> None:
        """From the client's side."""
        self._file.close()
        self._socket.close()

    def is_ended(self) -> bool:
        """Whether the server closed it, orderly and with nothing left to read; waits for that."""
        return self._file.read() == b""

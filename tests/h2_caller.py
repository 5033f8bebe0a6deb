"""A caller by HTTP/2 that does what RFC 9113 says of a connection that its server is about to close:
it waits for the answers that are under way (6.8), where `httpx`, and the `h2` that it uses, give
them up.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events

Header = tuple[str, str]

HEAD_BYTES = 9

GOAWAY = 7
"""The type of a frame."""


class H2Caller:
    """One connection, one call at a time.

    Args:
        context: with what the server is trusted.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._port = port
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self._begun = b""
        self.is_ending = False

    def __enter__(self) -> H2Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Sequence[Header] = (),
        trailers: Sequence[Header] = (),
    ) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionError: there is none.
        """
        stream = self._http.get_next_available_stream_id()
        named = [(":method", method), (":path", path), (":scheme", "https")]
        authority = (":authority", f"localhost:{self._port}")
        has_more = bool(body or trailers)
        self._http.send_headers(stream, [*named, authority, *headers], end_stream=not has_more)
        if has_more:
            self._send_body(stream, body, is_last=not trailers)
            if trailers:
                self._http.send_headers(stream, trailers, end_stream=True)
        status, content = 0, b""
        while True:
            for event in self._receive():
                if getattr(event, "stream_id", 0) not in (0, stream):
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    content += event.data
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError(f"the stream was reset: {event.error_code}")
                elif isinstance(event, h2.events.StreamEnded):
                    return status, content

    def _send_body(self, stream: int, body: bytes, *, is_last: bool) -> None:
        while True:
            room = min(
                self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size
            )
            part, body = body[:room], body[room:]
            self._http.send_data(stream, part, end_stream=is_last and not body)
            if not body:
                return
            if not self._http.local_flow_control_window(stream):
                self._receive()

    def _receive(self) -> list[h2.events.Event]:
        """Send what there is, and return what came of it."""
        self._socket.sendall(self._http.data_to_send())
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the connection was closed")
        events = self._http.receive_data(self._without_end(data))
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionError(f"the connection was ended: {event.error_code}")
            if isinstance(event, h2.events.DataReceived):
                self._http.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id
                )
        self._socket.sendall(self._http.data_to_send())
        return events

    def _without_end(self, data: bytes) -> bytes:
        """Whole frames of what has come, but for those that only say that the connection ends."""
        self._begun += data
        whole = b""
        while len(self._begun) >= HEAD_BYTES:
            size = HEAD_BYTES + int.from_bytes(self._begun[:3])
            if len(self._begun) < size:
                break
            frame, self._begun = self._begun[:size], self._begun[size:]
            if frame[3] == GOAWAY and not any(frame[HEAD_BYTES + 4 : HEAD_BYTES + 8]):
                self.is_ending = True
            else:
                whole += frame
        return whole

"""An answer is read no further than it may be long."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator import connections
from deployments.loadtest.generator.connections import NoAnswer, Server, send

HEAD = b"HTTP/1.1 200 OK\r\nserver: x\r\n"


@pytest.mark.parametrize("wire", ["json", "stream"])
@pytest.mark.parametrize("head", [HEAD + b"\r\n", HEAD + b"x: "], ids=["body", "head"])
def test_an_answer_without_end_is_not_read_on(
    monkeypatch: pytest.MonkeyPatch, wire: Any, head: bytes
):
    """It is no answer, with the reason; its connection is closed."""
    monkeypatch.setattr(connections, "MOST_ANSWER_BYTES", 1 << 20)
    is_closed = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(head)
            while True:
                connection.sendall(b"0" * 65536)
        connection.close()
        is_closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        call = LoadCall("f", "/", b"{}", wire=wire)
        with pytest.raises(NoAnswer, match="answer_too_large") as none:
            send(server, server.take(), server.head_of(call) + call.body, call)
        assert "more than 1 MiB" in none.value.words
        assert is_closed.wait(30)

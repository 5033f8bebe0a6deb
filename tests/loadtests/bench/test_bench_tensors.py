"""A tensor in and out, and the floor it is measured over."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from loadtests.bench import tensors
from loadtests.bench.latency import BadAnswer
from runtime.wire import decode

VALUES = bytes(range(256)) * (tensors.SIZE // 256)


def test_the_floor_gives_back_what_it_got(tmp_path: Path) -> None:
    """Again and again on one connection."""
    with tensors.floor(tmp_path) as port, tensors.Caller(port, b"POST / HTTP/1.1\r\n\r\n", VALUES) as caller:
        for _ in range(3):
            assert caller.seconds() > 0
            assert caller.tensor == VALUES


def test_the_request_is_one_of_the_protocol() -> None:
    """A row of a million floats, answered in binary."""
    head, body = tensors.request(VALUES)
    length = int(head.partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0])
    request = decode(body, length)
    assert request.inputs["x"].shape == (1, tensors.FLOATS)
    assert request.binary_default


def test_an_answer_that_is_none_is_refused() -> None:
    """Its beginning is in the message."""

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            while not connection.recv(4096).endswith(b"x"):
                pass
            connection.sendall(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        with tensors.Caller(listener.getsockname()[1], b"POST / HTTP/1.1\r\n\r\n", b"x") as caller, pytest.raises(BadAnswer, match="503"):
            caller.seconds()
        thread.join()

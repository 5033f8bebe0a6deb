"""The last callers at a port that closes."""

from __future__ import annotations

import json
import socket

import pytest

from runtime.http.parting import turn_away
from tests.wire import Wire


def test_who_has_knocked_is_told():
    """Callers who have connected, whether they have sent their call or not, and whom nobody has accepted; then the port is closed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=8)
    port = listener.getsockname()[1]
    callers = [Wire(port) for _ in range(3)]
    for caller in callers:
        caller.send(("POST", "/v2/models/f", {"x": 1}))
    silent = Wire(port)
    turn_away(listener, 0.05)
    for caller in callers:
        status, headers, body = caller.read()
        assert (status, headers["connection"], headers["retry-after"], json.loads(body)["code"]) == (503, "close", "1", "draining")
        assert caller.is_ended()
        caller.close()
    assert silent.is_ended()
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        Wire(port)

"""What goes past uvicorn builds on: ``hot_connection``, ``direct_io``, ``file_sender``."""

from __future__ import annotations

from typing import Final

from runtime.http.transport.assumptions.probe import (
    GET,
    POST,
    TWO,
    Probe,
    ProbeTransport,
    finish,
    start,
)
from runtime.http.transport.uvicorn_names import RequestResponseCycle
from runtime.system.assumptions import Assumption, require


def _check_methods() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        require(type(cycle) is RequestResponseCycle, f"`cycle` is of {type(cycle).__qualname__}")
        _, receive, send = probe.requests[0]
        for one in (receive, send):
            owner = getattr(one, "__self__", None)
            require(owner is cycle, "an application is given other than methods of the cycle")


def _check_transport() -> None:
    with Probe() as probe:
        cycle, other = probe.feed(GET), ProbeTransport()
        require(cycle.transport is probe.transport, "`transport` is not the connection's")
        cycle.transport = other
        probe.answer(cycle.send, b"ok", TWO, (b"connection", b"close"))
        require(not probe.transport.written, "it writes to another than its `transport`")
        require(other.written.endswith(b"\r\n\r\nok"), f"it writes {other.written!r}")
        require(other.is_closed, "it closes another than its `transport`")


def _check_body_elsewhere() -> None:
    with Probe() as probe:
        cycle = probe.feed(POST + b"ab")
        message = finish(cycle.receive())
        wanted = {"type": "http.request", "body": b"ab", "more_body": True}
        require(message == wanted, f"the first part of a body is {message}")
        # the rest was read past uvicorn, as ``direct_io.read_into`` does
        probe.protocol.begin_anew()
        cycle.more_body = False
        cycle.message_event.clear()
        probe.answer(cycle.send)
        probe.feed(GET)
        require(len(probe.requests) == 2, "the next request is not read")


def _check_discarded_body() -> None:
    with Probe() as probe:
        cycle = probe.feed(POST)
        cycle.response_complete = True
        probe.protocol.data_received(memoryview(b"abc"))  # type: ignore[arg-type]
        cycle.response_complete = False
        require(not cycle.body, "a body is kept although its request is answered")
        require(cycle.more_body, "a body is at its end before all has come")


def _check_between_requests() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        probe.answer(cycle.send)
        protocol = probe.protocol
        require(cycle.scope is protocol.scope, "an answered request's `scope` is not the last")
        require(not cycle.more_body, "`more_body` is set behind the whole of a request")
        probe.feed(b"G")
        require(cycle.scope is not protocol.scope, "the first byte of a request has no new `scope`")
    with Probe() as probe:
        cycle = probe.feed(POST)
        probe.answer(cycle.send)
        require(cycle.more_body, "`more_body` is not set before the whole of a body has come")


def _check_connections() -> None:
    with Probe() as probe:
        state = probe.state
        probe.answer(probe.feed(GET).send)
        require(state is probe.protocol.server_state, "`server_state` is not the server's")
        stand_in = object()
        state.connections.discard(probe.protocol)
        state.connections.add(stand_in)  # type: ignore[arg-type]
        probe.protocol.connection_lost(None)
        require(state.connections == {stand_in}, "a connection's end takes others with it")


def _check_file() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        finish(cycle.send(start((b"content-length", b"5"))))
        require(cycle.chunked_encoding is False, "a length is not known by `chunked_encoding`")
        require(cycle.expected_content_length == 5, "`expected_content_length` is another")
        cycle.expected_content_length -= 5
        finish(cycle.send({"type": "http.response.body", "body": b""}))
        require(cycle.response_complete, "a response is not at its end with its length")


SHORTCUTS: Final = (
    Assumption(
        "RequestResponseCycle.receive, .send",
        "what an application is given leads to the connection below it.",
        "",
        _check_methods,
    ),
    Assumption(
        "RequestResponseCycle.transport",
        "another that collects stands in for it while a response begins: head and body go in one "
        "write.",
        "a trivial call behind HAProxy: 115 us of the replica and 42 of HAProxy, not 150 and 50",
        _check_transport,
    ),
    Assumption(
        "RequestResponseCycle.more_body",
        "a large body is read from the socket into the memory of its tensors.",
        "a tensor of 4 MB in and out: 1.2 to 1.4 times sockets and one copy, not 1.9 to 4",
        _check_body_elsewhere,
    ),
    Assumption(
        "RequestResponseCycle.body",
        "what has come of a large body that is refused is fed to uvicorn, and thrown away.",
        "64 MiB take 7 ms",
        _check_discarded_body,
    ),
    Assumption(
        "HttpToolsProtocol.scope",
        "between two requests a connection may be answered past uvicorn: a parser, a scope, a task "
        "and a message for each part are more than the rest of a short call.",
        "a trivial function on Ray, 8 connections: 0.47 of bare uvicorn instead of 0.36",
        _check_between_requests,
    ),
    Assumption(
        "ServerState.connections",
        "what answers past uvicorn stands there for the connection.",
        "",
        _check_connections,
    ),
    Assumption(
        "RequestResponseCycle.expected_content_length of a file",
        "a file goes from the page cache to the socket, and is counted off what uvicorn expects.",
        "10 MB: 0.67 of what bare Starlette answers, not 0.48",
        _check_file,
    ),
)

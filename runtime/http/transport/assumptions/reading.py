"""What ``RequestProtocol`` builds on, a class of uvicorn's with some methods replaced; and that a
server which Ray makes can be given it.
"""

from __future__ import annotations

from typing import Final

import httptools
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from runtime.http.transport.assumptions.probe import (
    BODY,
    CLIENT,
    GET,
    KEEP_ALIVE_S,
    POST,
    TWO,
    Probe,
    finish,
    start,
)
from runtime.http.transport.protocol import RequestProtocol
from runtime.system.assumptions import Assumption, require


def _check_connection() -> None:
    with Probe() as probe:
        protocol = probe.protocol
        require(protocol.cycle is None, "a new connection has a request already")
        require(protocol.transport is probe.transport, "`transport` is not the connection's")
        loop: object = protocol.loop
        require(loop is probe.loop, "`loop` is not the one that it was made with")
        require(protocol.client == CLIENT, f"`client` is {protocol.client}, not the peer's address")
        require(probe.state.connections == {protocol}, "the server does not know the connection")
        cycle = probe.feed(GET)
        protocol.connection_lost(None)
        require(not probe.state.connections, "a lost connection is still the server's")
        require(cycle.disconnected, "a request whose connection is lost is not `disconnected`")
        require(cycle.message_event.is_set(), "it is not woken by `message_event`")


def _check_parser() -> None:
    with Probe() as probe:
        protocol = probe.protocol
        is_parser = isinstance(protocol.parser, httptools.HttpRequestParser)
        require(is_parser, f"`parser` is of {type(protocol.parser).__qualname__}")
        probe.answer(probe.feed(GET).send)
        protocol.begin_anew()
        probe.feed(POST + b"abcdef")
        require(len(probe.requests) == 2, "a parser that is put in place reads no request")


def _check_head() -> None:
    with Probe() as probe:
        probe.feed(GET)
        scope = probe.requests[0][0]
        protocol = probe.protocol
        require(protocol.url == b"/a%20b?q=1", f"`url` is {protocol.url!r}")
        require(scope["headers"] is protocol.headers, "`headers` is not the application's list")
        wanted = [(b"host", b"t"), (b"x-name", b"Value")]
        require(protocol.headers == wanted, f"`headers` is {protocol.headers}")
        found = (scope["path"], scope["raw_path"], scope["query_string"], scope["http_version"])
        require(found == ("/a b", b"/a%20b", b"q=1", "1.1"), f"the request reads as {found}")


def _check_expect() -> None:
    with Probe() as probe:
        head = POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")
        cycle = probe.feed(head)
        cycle.message_event.set()
        finish(cycle.receive())
        is_said = probe.transport.written.startswith(b"HTTP/1.1 100 ")
        require(is_said, "`expect_100_continue` is set, and the client is not told to send")


def _check_cycle() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        before = (cycle.response_started, cycle.response_complete, cycle.keep_alive)
        require(before == (False, False, True), f"a request begins with {before}")
        require(cycle.scope is probe.requests[0][0], "`scope` is not the application's")
        finish(cycle.send(start(TWO)))
        require(cycle.response_started, "`response_started` is not set by the head")
        finish(cycle.send(BODY))
        require(cycle.response_complete, "`response_complete` is not set by the last of the body")
        require(not probe.transport.is_closed, "the connection is closed behind the answer")


def _check_last_response() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        probe.protocol.shutdown()
        require(not probe.transport.is_closed, "`shutdown` does not wait for a response")
        require(not cycle.keep_alive, "`shutdown` does not reset `keep_alive`")
        probe.answer(cycle.send)
        require(probe.transport.is_closed, "the connection stays behind its last response")
    with Probe() as probe:
        probe.protocol.shutdown()
        require(probe.transport.is_closed, "`shutdown` leaves an idle connection open")


def _check_on_response() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        owner = getattr(cycle.on_response, "__self__", None)
        require(owner is probe.protocol, "`on_response` is no method of the connection's protocol")
        require(
            cycle.on_response.__name__ == "on_response_complete",
            f"`on_response` is {cycle.on_response.__name__}",
        )


def _check_disconnected() -> None:
    with Probe() as probe:
        cycle = probe.feed(POST)
        cycle.disconnected = True
        cycle.message_event.set()
        message = finish(cycle.receive())
        require(message == {"type": "http.disconnect"}, f"the application is told {message}")
        finish(cycle.send(start(TWO)))
        require(not probe.transport.written, "what is sent to a client that left is written")


def _check_default_headers() -> None:
    with Probe() as probe:
        cycle = probe.feed(GET)
        probe.answer(cycle.send)
        head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\nok"
        require(probe.transport.written == head, f"a response is {probe.transport.written!r}")
        probe.state.default_headers = [(b"date", b"later")]
        probe.answer(probe.feed(GET).send)
        require(b"date: later" in probe.transport.written, "they are read once, not each time")


def _check_pipeline() -> None:
    with Probe() as probe:
        first = probe.feed(GET)
        second = probe.feed(GET)
        protocol = probe.protocol
        require(first is not second, "a second request has no cycle of its own")
        require(len(probe.requests) == 1, "a second request does not wait for the first's answer")
        require(
            len(protocol.pipeline) == 1 and protocol.pipeline[0][0] is second,
            "the newest request that waits is not the leftmost of `pipeline`",
        )
        require(protocol.flow.read_paused, "reading goes on while a request waits")
        probe.answer(first.send)
        require(
            len(probe.requests) == 2 and not protocol.pipeline,
            "an answer does not begin the request that waits",
        )
        third = probe.feed(GET)
        protocol.pipeline.popleft()
        probe.answer(second.send)
        require(len(probe.requests) == 2, "a request that was taken back is begun")
        require(protocol.cycle is third, "`cycle` is not the last request's")


def _check_app() -> None:
    asked: list[str] = []

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])

    with Probe() as probe:
        first = probe.feed(GET)
        probe.feed(GET)
        probe.protocol.app = other
        probe.feed(GET.replace(b"/a", b"/last"))
        probe.answer(first.send)
        require(len(probe.requests) == 2, "a request that waits goes to an application set later")
        require(probe.protocol.pipeline[0][1] is other, "the next request does not go to `app`")
        loaded = probe.config.loaded_app
        require(loaded == probe.answer_request, f"`Config.loaded_app` is {loaded}")


def _check_keep_alive_timer() -> None:
    with Probe() as probe:
        protocol = probe.protocol
        probe.answer(probe.feed(GET).send)
        timer: object = protocol.timeout_keep_alive_task
        timers = [one for one in probe.loop.timers if one is timer]
        require(len(timers) == 1, "`timeout_keep_alive_task` is no timer of the loop")
        require(
            timers[0].delay == protocol.timeout_keep_alive == KEEP_ALIVE_S, "it is another time"
        )
        protocol._unset_keepalive_if_required()
        require(timers[0].is_cancelled, "`_unset_keepalive_if_required` does not cancel the timer")
        require(protocol.timeout_keep_alive_task is None, "it does not forget the timer")
        protocol.timeout_keep_alive_handler()
        require(probe.transport.is_closed, "`timeout_keep_alive_handler` does not close")


def _check_flow() -> None:
    with Probe() as probe:
        flow, transport = probe.protocol.flow, probe.transport
        require(not flow.read_paused, "reading is paused at first")
        flow.pause_reading()
        require(flow.read_paused and not transport.reads, "`pause_reading` does not")
        flow.resume_reading()
        require(not flow.read_paused and transport.reads, "`resume_reading` does not")
        probe.protocol.pause_writing()
        require(flow.write_paused, "`pause_writing` does not reach `flow`")
        probe.protocol.resume_writing()
        require(not flow.write_paused, "`resume_writing` does not reach `flow`")
        finish(flow.drain())


def _check_websocket() -> None:
    taken: list[bytes] = []

    class WebSockets:
        def __init__(self, **_: object) -> None:
            pass

        def connection_made(self, transport: object) -> None:
            pass

        def data_received(self, data: bytes) -> None:
            taken.append(data)

    handshake = b"GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with Probe() as probe:
        probe.feed(handshake)
        require(len(probe.requests) == 1, "a handshake that is not taken is no request")
    with Probe() as probe:
        probe.protocol.ws_protocol_class = WebSockets  # type: ignore[assignment]
        probe.feed(handshake)
        require(len(taken) == 1 and taken[0].startswith(b"GET /ws "), f"it is handed on as {taken}")
        require(not probe.requests, "a handshake that was handed on is a request as well")


def _check_upgrade() -> None:
    with Probe() as probe:
        head = POST.replace(b"\r\n\r\n", b"\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n")
        cycle = probe.feed(head + b"abcdef")
        require(len(probe.requests) == 1, "a request that asks for h2c is not served")
        message = finish(cycle.receive())
        require(message.get("body") == b"abcdef", f"the body of such a request is {message}")


def _check_response_without_length() -> None:
    with Probe() as probe:
        cycle = probe.feed(b"GET / HTTP/1.0\r\n\r\n")
        require(not cycle.keep_alive, "a connection of HTTP/1.0 is kept")
        cycle.chunked_encoding = False
        cycle.expected_content_length = 2
        finish(cycle.send(start()))
        finish(cycle.send({**BODY, "more_body": True}))
        cycle.expected_content_length = 2
        finish(cycle.send(BODY))
        written = probe.transport.written
        require(written.endswith(b"\r\n\r\nokok"), f"it is written as {written!r}")
        require(b"chunked" not in written, f"it is written as {written!r}")
        require(probe.transport.is_closed, "the connection stays")


READING: Final = (
    Assumption(
        "HttpToolsProtocol",
        "`RequestProtocol` is a subclass: it is made and connected as uvicorn does that, and asked "
        "for its transport, its loop and its client.",
        "",
        _check_connection,
    ),
    Assumption(
        "HttpToolsProtocol.parser",
        "a head with an `Upgrade` that is not taken, and what follows a body that went past "
        "uvicorn, are read by a new parser.",
        "",
        _check_parser,
    ),
    Assumption(
        "HttpToolsProtocol.url, .headers",
        "a head is written anew from them without its `Upgrade`; trailers are kept out of them.",
        "",
        _check_head,
    ),
    Assumption(
        "HttpToolsProtocol.expect_100_continue",
        "`on_header` is replaced, and sets it: a client that waits for 100 would send no body.",
        "",
        _check_expect,
    ),
    Assumption(
        "HttpToolsProtocol.flow",
        "a connection is paused while its body goes elsewhere, and a long answer waits until it "
        "is read.",
        "",
        _check_flow,
    ),
    Assumption(
        "HttpToolsProtocol.pipeline",
        "what was asked before a request that is no HTTP is answered first; a request whose rest "
        "never comes is taken back.",
        "",
        _check_pipeline,
    ),
    Assumption(
        "HttpToolsProtocol.app, Config.loaded_app",
        "a server that ends refuses what comes from then on by another application.",
        "",
        _check_app,
    ),
    Assumption(
        "HttpToolsProtocol.timeout_keep_alive_task",
        "`data_received` is replaced, and stops the timer that closes an idle connection.",
        "",
        _check_keep_alive_timer,
    ),
    Assumption(
        "HttpToolsProtocol.shutdown",
        "the end of a server closes idle connections, and each other behind its response.",
        "",
        _check_last_response,
    ),
    Assumption(
        "HttpToolsProtocol._should_upgrade",
        "a WebSocket is handed on where an application takes it; elsewhere its handshake is a "
        "request, as every other `Upgrade` is.",
        "",
        _check_websocket,
    ),
    Assumption(
        "HttpToolsProtocol.on_headers_complete",
        "the body of a request that asks for another protocol is its body, and not the next "
        "request.",
        "",
        _check_upgrade,
    ),
    Assumption(
        "RequestResponseCycle.response_started, .response_complete",
        "whether a connection is at work, whether a client that sends no more waits, and whether "
        "an error can still be the answer.",
        "",
        _check_cycle,
    ),
    Assumption(
        "RequestResponseCycle.on_response",
        "leads from `send` to the connection, whose client has to read what it is sent.",
        "",
        _check_on_response,
    ),
    Assumption(
        "RequestResponseCycle.disconnected, .message_event",
        "an application is told that its client has left where its request is no HTTP.",
        "",
        _check_disconnected,
    ),
    Assumption(
        "RequestResponseCycle.chunked_encoding, .expected_content_length",
        "a stream to a client of HTTP/1.0, which knows no chunks, ends with its connection.",
        "",
        _check_response_without_length,
    ),
    Assumption(
        "ServerState.default_headers",
        "each response begins with them: those that are written past uvicorn have the same.",
        "",
        _check_default_headers,
    ),
)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Of no request."""


def _check_selection() -> None:
    before = HTTP_PROTOCOLS["auto"]
    HTTP_PROTOCOLS["auto"] = f"{RequestProtocol.__module__}:{RequestProtocol.__qualname__}"
    try:
        config = uvicorn.Config(_app, http="auto", ws="none", log_config=None)
        config.load()
    finally:
        HTTP_PROTOCOLS["auto"] = before
    chosen = config.http_protocol_class
    require(chosen is RequestProtocol, f"a server without a choice reads by {chosen.__qualname__}")


SELECTION: Final = (
    Assumption(
        'uvicorn.config.HTTP_PROTOCOLS["auto"]',
        "a server that Ray makes leaves its protocol to uvicorn, and has no other way to be given "
        "one: HTTP is then read by uvicorn alone.",
        "",
        _check_selection,
    ),
)

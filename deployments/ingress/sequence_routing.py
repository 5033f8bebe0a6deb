"""Calls of one sequence go to one replica, whose memory holds the sequence's state
(``runtime.execution.sequence_store``): what a replica does for calls that do not come through
HAProxy, and what HAProxy does (``find_sequence`` and ``keep_sequence`` of
``haproxy/rules.cfg.j2``).

HAProxy finds the sequence in a call, as a digest of its id: that has one length for any id, and is
the same by header and by body. Its script ``haproxy/sequence_routing.lua`` knows which replica has
which sequence, and shares that with the HAProxy processes before and after it. Only a start that is
answered is known, or clients could push out the sequences of others.

Connections that clients keep stay with a process that was replaced, for one more request, which it
passes on to the newest process: that one knows all replicas.

A hash of the id instead would take sequences away from replicas whenever another one starts. Nor is
it a stick table, which an HAProxy hands to the next one (``peers``) while both answer: two
sequences a reload were lost on the way, and all of them in HAProxy's first five seconds.

Some calls come through Ray Serve's proxy: HAProxy does not know their replica yet. A function that
had no replica may get several at once, and Serve passes calls to any of them for the second or so
until HAProxy knows them too. So a replica says which one it is when it answers a start, and one
that gets a call of another's sequence does not answer it: what holds the call in the proxy sends it
again (``deployments.ingress.replay``), until it reaches the right one (``FallbackSequences``).
"""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.haproxy.rules import REPLICA, SEQUENCE

LEARNS_S: Final = 5.0
"""HAProxy knows a new replica within so long. A sequence that began earlier has lost its replica,
and any other says so (409).
"""


class FallbackSequences:
    """An ASGI application around that of a replica, for the requests that Serve passes to it.

    Args:
        server: this replica, by HAProxy's name for it.
    """

    def __init__(self, app: ASGIApp, server: str) -> None:
        self._app = app
        self._server = server.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan."""
        headers = dict(scope.get("headers", ()))  # a lifespan has none
        began = headers.get(SEQUENCE.encode(), b"")
        if not began:
            await self._app(scope, receive, send)
            return
        server = headers.get(REPLICA.encode(), b"")
        is_new = began.isdigit() and time.time() - int(began) / 1e6 < LEARNS_S
        if server not in (b"", self._server) and is_new:
            await send_elsewhere(send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (REPLICA.encode(), self._server)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_named)


async def send_elsewhere(send: Send) -> None:
    """Send what ``texts.is_error_page`` takes for no answer of a function's."""
    headers = [(b"content-type", b"text/plain"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"another replica has this sequence."})

"""Calls of one sequence go to one replica, whose memory holds the sequence's state
(``runtime.execution.sequence_store``): what HAProxy's configuration has for it, and what a replica
does for calls that do not come through it.

HAProxy finds the sequence in a call, as a digest of its id: that has one length for any id, and is
the same by header and by body. Its script ``sequence_routing.lua`` knows which replica has which
sequence, and shares that with the HAProxy processes before and after it. Only a start that is
answered is known, or clients could push out the sequences of others.

Connections that clients keep stay with a process that was replaced, for one more request: if that
is of a sequence, it goes to the newest process, which knows all replicas.

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
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.config_edit import ConfigEdit

SEQUENCE: Final = "x-wakeful-sequence"
"""The time when HAProxy sent a sequence on its way, in microseconds since the epoch; see
``runtime.protocol.sequences.SequenceRef.route``.
"""

REPLICA: Final = "x-wakeful-replica"
"""The replica that has the sequence, by HAProxy's name for it. HAProxy says it with a call; a
replica that is called through Serve's proxy says it with its answer.
"""

_ID: Final = "x-sequence-id"
_START: Final = "x-sequence-start"
_UNSAID: Final = (
    f"{{ path_end /infer }} !{{ req.hdr({_ID}) -m found }} {{ req.body -m sub sequence_id }}"
)
"""A v2 call that names a sequence in the part of its body that HAProxy holds. The id is encoded, so
that it fits in one header.
"""

_DIGEST: Final = "txn.wakeful_sequence"
_SERVER: Final = "txn.wakeful_server"
_BEGAN: Final = "txn.wakeful_began"
_START_TIME: Final = "txn.wakeful_start"
"""Variables that the script shares: the sequence; its replica and the time of its start, where it
is known; and the time of a start that this call is.
"""

SCRIPT: Final = Path(__file__).with_suffix(".lua")

# `option persist`: a replica that fails a health check, since it or the machine is busy, still has
# its sequences. One that is dead refuses the connection, and the call goes to another, which does
# not know the sequence.
ROUTING: Final = f"""\
    option persist
    acl wakeful_in_sequence var({_DIGEST}) -m found
    acl wakeful_starts var({_START_TIME}) -m found
    http-request set-var({_START_TIME}) date(0,us) if wakeful_in_sequence \
{{ req.hdr({_START}) -m str -i 1 true }}
    http-request lua.wakeful_find_sequence if wakeful_in_sequence
    http-request set-header {SEQUENCE} %[var({_BEGAN},0)] if wakeful_in_sequence
    http-request set-header {SEQUENCE} %[var({_START_TIME})] if wakeful_starts
    http-request del-header {REPLICA}
    http-request set-header {REPLICA} %[var({_SERVER})] if {{ var({_SERVER}) -m found }} \
!wakeful_starts
    use-server %[var({_SERVER})] if {{ var({_SERVER}) -m found }}
    http-response lua.wakeful_store_sequence if wakeful_starts {{ status 200 }}
    http-response del-header {REPLICA}
"""

FIND_RULES: Final = (
    f"    http-request set-header {_START} "
    f"%[req.body,json_query('$.parameters.sequence_start'),url_enc]"
    f" if {{ path_end /infer }} !{{ req.hdr({_START}) -m found }} !{{ stopping }} "
    f"{{ req.body -m sub sequence_start }}\n"
    f"    http-request set-var({_DIGEST}) "
    f"req.body,json_query('$.parameters.sequence_id'),url_enc,sha2(256),hex if {_UNSAID}\n"
    f"    http-request set-var({_DIGEST}) req.fhdr({_ID}),url_enc,sha2(256),hex if "
    f"{{ req.hdr({_ID}) -m found }}\n"
    f"    http-request set-header {_ID} "
    f"%[req.body,json_query('$.parameters.sequence_id'),url_enc] if {_UNSAID} "
    f"!{{ stopping }}\n"
)
"""Of a frontend; ``ROUTING`` is of a backend behind it, and ``script_lines`` are of ``global``."""


def script_lines(folder: str) -> str:
    """Return the lines that load the script.

    Args:
        folder: where its files are, with a slash at the end.
    """
    return f'    tune.lua.forced-yield 1000000000\n    lua-load "{SCRIPT}" {folder}sequences\n'


SEQUENCE_EDITS: Final = (
    ConfigEdit(
        r"(?ms)^(    stats socket (\S*/)\S+ .*?)(?=^defaults\n)",
        "\\g<1>" + script_lines("\\g<2>"),
        "the calls of a sequence go to any replica",
    ),
    ConfigEdit(
        r"frontend http_frontend\n    bind .*\n",
        f"\\g<0>{FIND_RULES}",
        "v2 calls that name their sequence in the body alone go to any replica",
    ),
    # a server at 0.0.0.0 is where the client had connected to: there another process listens now
    ConfigEdit(
        r"    # Static routing based on path prefixes.*\n",
        f"\\g<0>    use_backend wakeful_newest if {{ stopping }} {{ var({_DIGEST}) -m found }}\n",
        "calls of a sequence by old connections may not reach a new replica",
    ),
    ConfigEdit(
        r"(?m)^backend default_backend\n",
        "backend wakeful_newest\n    server newest 0.0.0.0\n\\g<0>",
        "calls of a sequence by old connections may not reach a new replica",
    ),
    ConfigEdit(
        r"(?m)^backend (?!default_backend$|wakeful_)\S+\n    log global\n(?=    # Enable HTTP)",
        f"\\g<0>{ROUTING}",
        "the calls of a sequence go to any replica",
        most=0,
    ),
)


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
    """Send what ``replay.is_serve_error`` takes for no answer of a function's."""
    headers = [(b"content-type", b"text/plain"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"another replica has this sequence."})

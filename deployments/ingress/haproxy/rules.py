"""What HAProxy is told wherever it stands before processes of ours: the names and numbers of its
rules, which the templates take by these names (``rules.cfg.j2``).
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from deployments.ray_support.environment import CONNECTIONS

FUNCTION: Final = "WakefulFunction"
"""Our deployments, in the names that Ray gives HAProxy's servers:
``SERVE_REPLICA_<application>-<deployment>-<id>``.
"""

HOST: Final = "WakefulHost"
CATALOGUE: Final = "WakefulCatalogue"

ONCE: Final = "WakefulOnce"
"""Of a function whose calls are not sent again (``limits.replay``)."""

ID: Final = "x-request-id"

ARRIVED: Final = "x-wakeful-call"
"""``<microseconds since the epoch>-<HAProxy's process>-<number>``; see
``runtime.http.request_headers``.
"""

DRAINING: Final = "proc.wakeful_draining"
"""HAProxy's variable that ``down`` sets through its socket: from then on new requests are refused
and connections are closed.
"""

CONSOLE: Final = "wakeful_console"
"""The backend of the console's pages. They stay open as long as their readers want: what is there
is no call that a drain waits for.
"""

KEPT: Final = "proc.wakeful_promises"
"""HAProxy's variable with the names of the promises that its configuration keeps, for what asks it
by its socket: it tells of the configuration that runs, whatever has become of the file.
"""

OWN: Final = "x-wakeful-own"
"""Header of HAProxy's own 502, which becomes 503; the 502 of a stage whose upstream has failed
stays.
"""

INNER: Final = "req.hdr(content-type) application/vnd.wakeful.rows"
"""Matches calls of functions by functions (``runtime.protocol.row_codec``, whose import would cost
each reload 0.1 s). On a cluster with a token ``SECRET`` takes its place, a header that only
functions can send: other clients would keep a drain from its end.
"""

SECRET: Final = "x-wakeful-internal"
"""As in ``runtime.http.function_routes``, whose import would cost as much."""

EDGE: Final = "x-wakeful-edge"
"""The secret by which a process knows that a request has come through HAProxy. This and the next
two are HAProxy's to set.
"""

KEY: Final = "x-wakeful-key"
"""The name of the key that a call carries."""

FUNCTIONS: Final = "x-wakeful-functions"
"""The functions that a key opens: names with commas between them, or ``*``. Where routes show what
there is.
"""

SCOPES: Final = "x-wakeful-scopes"
"""The scopes of a key by their letters, where the console asks what it may do."""

SCOPE_LETTERS: Final = MappingProxyType({"call": "c", "look": "l", "operate": "o"})
"""How the entry of a key has its scopes, in this order (``haproxy.access``)."""

NEWEST: Final = "p"
"""A socket in HAProxy's folder, where the newest process listens. One character, since the path of
a socket is short.
"""

PASSED_SUBJECT: Final = "x-wakeful-subject"
"""The common name of a client's certificate, from a HAProxy that was replaced to the newest one."""

FREE_GUESSES: Final = 20
"""Wrong keys of an address that are answered at once."""

GUESSES_S: Final = 600
"""For so long a wrong key counts."""

GUESS_S: Final = 2
"""How long the answer to a further one takes. No number of guesses finds a key; this keeps an
address that tries from costing what answers cost.
"""

MOST_HELD: Final = CONNECTIONS // 16
"""Answers that are held back at once, each with its connection; further ones are not held."""

MOST_ADDRESSES: Final = 20_000
"""That wrong keys are counted of; the oldest is forgotten for another."""

MOST_KEYS: Final = 32_768
"""That calls are counted of, which is more than there may be (``http_section.MAX_KEYS``)."""

KEY_PAGES: Final = 16
"""Pages of the console that a key has open at once: a quarter of those that a process has
(``runtime.http.catalogue.console.feed``), so that none keeps all others out.
"""

UNAUTHORIZED: Final = (
    "a key is wanted: send it as `authorization: Bearer KEY` or as `x-api-key: KEY`. This call has "
    "none, or one that is not known here or no longer taken."
)
FORBIDDEN: Final = (
    "this key has not the scope that this route takes; `wakeful keys list` shows those of each key."
)
NOTHING_HERE: Final = "no function or route answers here."

UPLOAD_S: Final = 30
"""A request that is not whole, or does not fill the buffer, after so long is a slow upload; as in
``runtime.http.asgi``.
"""

CONNECT_MS: Final = 250
"""Longest wait for a connection, and for the next attempt at the same server; replicas are on this
machine or a rack away.
"""

CROWDED: Final = CONNECTIONS * 3 // 4
"""With so many connections a refused client loses its connection, too: other clients wait for one.
"""

LOST_S: Final = 1
"""A keep-alive probe is sent after so long a silence, and again: after three without an answer the
machine is lost. The answer comes from the other machine's kernel, so a process that is busy or
stopped gives it, too. Data that is not acknowledged for as long (`tcp-ut`) means the same, but also
ends connections to a living process that does not read (Linux 5.11 and later): it is set for
servers on other machines only, whose processes read a body as it arrives.
"""

REPLAY: Final = "conn-failure empty-response junk-response"
"""When a call is sent again: also when its replica had taken it, and has not begun to answer. In
other backends: only when no replica had taken it.
"""

HINTS: Final = "(x[-_]session[-_]id|serve[-_]multiplexed[-_]model[-_]id)"
"""Headers by which Ray Serve routes calls that it handles itself, in the forms that it takes."""

METHODS: Final = "GET, HEAD, POST"
EXPOSED: Final = (
    "accept-ranges, content-disposition, content-range, inference-header-content-length,"
    " retry-after, server-timing, x-request-id"
)
"""Both as in ``runtime.http.cors``."""

PAGES: Final = (
    *("/", "/console", "/docs", "/openapi.json", "/metrics"),
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
)
FOREIGN: Final = (
    "a page of another site has sent this, and may not call here. `http.cors.origins` of the file"
    " names pages that may."
)
"""Likewise: what a link on another site's page may lead to, and what is said of all else that one
sends.
"""

SEQUENCE: Final = "x-wakeful-sequence"
"""The time when HAProxy sent a sequence on its way, in microseconds since the epoch; see
``runtime.protocol.sequences.SequenceRef.route``.
"""

REPLICA: Final = "x-wakeful-replica"
"""The replica that has the sequence, by HAProxy's name for it. HAProxy says it with a call; a
replica that is called through Serve's proxy says it with its answer.
"""

SEQUENCE_SCRIPT: Final = Path(__file__).with_name("sequence_routing.lua")
"""Knows which replica has which sequence."""

CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""Of TLS 1.2: those that keep what was recorded from a key that is lost later. TLS 1.3 has no
others.
"""

WAITING_SCRIPT: Final = Path(__file__).with_name("waiting.lua")
"""Holds calls while no process serves."""

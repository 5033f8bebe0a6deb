"""Measures what calls of one caller take over HTTP: what of that is no work of a worker, and what a
worker takes longer after it had nothing to do.

A batch that follows another finds its model, its code and its tensors in the caches. While the
worker waits, what else computes there takes their place, and the batch after it reads them from
memory once more: that costs a time of its own, whatever its rows are, and the more the longer the
wait was, up to about a tenth of a second. So calls come with pauses of all lengths, mixed, since
the machine itself is faster and slower from second to second.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from deployments.scaling.planning.spreads import groups_of, never_falling, shares_of
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.protocol.json_text import dumps

HTTP_S: Final = 9.0
"""Of one caller, after ``WAKE_S``. What a served row takes is known by these calls alone, and a
machine is by some per cent faster in one second than in another.
"""

WAKE_S: Final = 0.6
"""Of calls that wake the function, and count for nothing."""

PAUSES_S: Final = (0.001, 0.15)
"""The shortest and the longest pause before a call; those of any order of size are as frequent."""

AT_ONCE: Final = 1 / 3
"""Share of the calls that have none."""

MOST_BUSY: Final = 0.5
"""Of the time with a call under way, but for the first ``FREE_S``: pauses are longer above it. What
is busy for more (``Thresholds.promote_share``) is promoted, and its replica would start meanwhile.
"""

FREE_S: Final = 0.25

LONGEST_PAUSE_S: Final = 1.0

IDLE_GROUPS: Final = 6
"""Of calls by how long their worker had waited, of equal size; fewer of fewer calls."""

LEAST_IN_GROUP: Final = 8

LEAST_CALLS: Final = 3
MOST_CALLS: Final = 1000

WORKER_PARTS: Final = ("batch", "preprocess", "model", "postprocess")
"""Of ``Server-Timing``, what a worker does; the rest of a call is its way and its wait."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_TIMING: Final = re.compile(r"([a-z]+);dur=([0-9.]{1,20})")

_NUMBERS: Final = itertools.count()


class HttpCall(NamedTuple):
    """A call over HTTP.

    Attributes:
        seconds: that its caller waited.
        worker_s: of its workers, as the answer says; 0: it does not say.
        server_s: of the server without them, likewise.
        is_local: the server is on this machine.
        idle_s: for which its worker had nothing to do before it.
    """

    seconds: float
    worker_s: float
    server_s: float
    is_local: bool
    idle_s: float = 0.0


class Way(NamedTuple):
    """What calls take over HTTP, as of ``FunctionProfile``."""

    call_s: float
    served: float
    idle_extra_s: tuple[tuple[float, float], ...]
    beside_s: tuple[float, ...]
    beside_cpu_s: float


def way_of(calls: Sequence[HttpCall], usual_s: float) -> Way:
    """What comes to a worker's time on the way.

    Args:
        usual_s: of a worker, for such a call, as it was measured without HTTP; it counts where the
            answers do not say.
    """
    is_said = usual_s > 0 and statistics.median(call.worker_s for call in calls) > 0
    beside = [max(0.0, call.seconds - (call.worker_s if is_said else usual_s)) for call in calls]
    # on one machine all of a call's way is work of its processors; of another the network is not
    cpu_s = beside if calls[0].is_local else [call.server_s for call in calls]
    waited = _by_idle(calls) if is_said else [(0.0, usual_s)]
    shortest_s = waited[0][1]
    return Way(
        statistics.median(call.seconds for call in calls),
        shortest_s / usual_s if is_said else 1.0,
        tuple((idle_s, worker_s - shortest_s) for idle_s, worker_s in waited),
        shares_of(beside),
        min(statistics.median(cpu_s), statistics.median(beside)),
    )


def _by_idle(calls: Sequence[HttpCall]) -> list[tuple[float, float]]:
    """How long a worker had waited, and its seconds then: of groups of calls, the medians. Chance
    makes them fall here and there, which they do not.
    """
    count = max(1, min(IDLE_GROUPS, len(calls) // LEAST_IN_GROUP))
    groups = groups_of(sorted(calls, key=lambda call: call.idle_s), count)
    worker_s = [statistics.median(call.worker_s for call in group) for group in groups]
    idle_s = [statistics.median(call.idle_s for call in group) for group in groups]
    return list(zip(idle_s, never_falling(worker_s), strict=True))


def read_timing(text: str) -> tuple[float, float]:
    """Seconds of workers and of the rest of the server, out of ``Server-Timing``; 0 where it does
    not say.
    """
    try:
        parts = {name: float(number) / 1000 for name, number in _TIMING.findall(text)}
    except ValueError:
        return 0.0, 0.0
    worker_s = sum(parts.get(name, 0.0) for name in WORKER_PARTS)
    return worker_s, max(0.0, parts.get("total", 0.0) - worker_s)


def measure_http(
    url: str, spec: FunctionSpec, row: Mapping[str, Any], headers: Mapping[str, str]
) -> list[HttpCall]:
    """What one caller waits for, many times on one connection.

    Args:
        headers: to send besides, names in lower case.

    Raises:
        RequestError: there is no answer, or another than the function's.
    """
    address, timeout_s = urlsplit(url), spec.limits.request_timeout_s + 5
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=timeout_s)
    try:
        with contextlib.closing(connection):
            return _call_over(connection, address.path + spec.route_prefix, spec, row, headers)
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(
            f"{url} does not answer: {str(error) or type(error).__name__}.", where="--url"
        ) from error


def _call_over(
    connection: http.client.HTTPConnection,
    path: str,
    spec: FunctionSpec,
    row: Mapping[str, Any],
    given: Mapping[str, str],
) -> list[HttpCall]:
    """Some calls, one after the other, with a pause before each; the first ones are left out."""
    dice = random.Random(0)
    body = dumps(row)
    headers = {"content-type": "application/json", "accept": "*/*", **given}
    taken: list[HttpCall] = []
    started = ended = time.perf_counter()
    busy_s = 0.0
    is_awake = False
    while len(taken) < MOST_CALLS and (
        len(taken) < LEAST_CALLS or ended - started < WAKE_S + HTTP_S
    ):
        time.sleep(choose_pause_s(dice, busy_s, time.perf_counter() - started))
        if spec.sequences is not None:
            number = f"profile-{next(_NUMBERS)}"
            headers |= {"x-sequence-id": number, "x-sequence-start": "1", "x-sequence-end": "1"}
        began, before = time.perf_counter(), ended
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        ended = time.perf_counter()
        if answer.status != http.client.OK:
            is_refused = answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
            fix = " Give with `--header` what must be shown to be let in." if is_refused else ""
            raise RequestError(
                f"{spec.name} answered its example with {answer.status}:"
                f" {text[:300].decode(errors='replace')}{fix}",
                where="--header" if is_refused else f"{spec.name}.example",
            )
        seconds = ended - began
        busy_s += seconds
        worker_s, server_s = read_timing(answer.headers.get("server-timing", ""))
        # the way of the answer before and of this call, which are together about as long as its own
        idle_s = began - before + max(0.0, seconds - worker_s)
        if is_awake:
            is_local = connection.host in LOOPBACK
            taken.append(HttpCall(seconds, worker_s, server_s, is_local, idle_s))
        is_awake = is_awake or ended - started >= WAKE_S
    return taken


def choose_pause_s(dice: random.Random, busy_s: float, since_s: float) -> float:
    """Seconds to wait before the next call.

    Args:
        busy_s: of the calls so far, within ``since_s`` since the first.
    """
    shortest_s, longest_s = PAUSES_S
    drawn_s = shortest_s * (longest_s / shortest_s) ** dice.random()
    pause_s = 0.0 if dice.random() < AT_ONCE else drawn_s
    owed_s = (busy_s - FREE_S) / MOST_BUSY - since_s
    return min(max(pause_s, owed_s), LONGEST_PAUSE_S)

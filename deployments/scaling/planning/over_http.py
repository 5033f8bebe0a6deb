"""Measures what calls of one caller take over HTTP, and what of that is no work of a worker."""

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

from deployments.scaling.planning.spreads import shares_of
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.protocol.json_text import dumps

HTTP_S: Final = 2.4
"""Of one caller, after a quarter as long that wakes it: together less than what promotes a function
(``Thresholds.window_s``), whose replica would start meanwhile.
"""

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
    """

    seconds: float
    worker_s: float
    server_s: float
    is_local: bool


class Way(NamedTuple):
    """What calls take over HTTP, as of ``FunctionProfile``."""

    call_s: float
    served: float
    beside_s: tuple[float, ...]
    beside_cpu_s: float


def way_of(calls: Sequence[HttpCall], usual_s: float) -> Way:
    """What comes to a worker's time on the way.

    Args:
        usual_s: of a worker, for such a call, as it was measured without HTTP; it counts where the
            answers do not say.
    """
    call_s = statistics.median(call.seconds for call in calls)
    worker_s = statistics.median(call.worker_s for call in calls)
    is_said = worker_s > 0 and usual_s > 0
    beside = [max(0.0, call.seconds - (call.worker_s if is_said else usual_s)) for call in calls]
    # on one machine all of a call's way is work of its processors; of another the network is not
    cpu_s = beside if calls[0].is_local else [call.server_s for call in calls]
    return Way(
        call_s,
        worker_s / usual_s if is_said else 1.0,
        shares_of(beside),
        min(statistics.median(cpu_s), statistics.median(beside)),
    )


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


def measure_http(url: str, spec: FunctionSpec, row: Mapping[str, Any]) -> list[HttpCall]:
    """What one caller waits for, many times on one connection."""
    address, timeout_s = urlsplit(url), spec.limits.request_timeout_s + 5
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=timeout_s)
    try:
        with contextlib.closing(connection):
            path = address.path + spec.route_prefix
            _call_over(connection, path, spec, row, HTTP_S / 4)  # wakes it, and has it warm
            return _call_over(connection, path, spec, row, HTTP_S)
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(
            f"{url} does not answer: {str(error) or type(error).__name__}.", where="--url"
        ) from error


def _call_over(
    connection: http.client.HTTPConnection,
    path: str,
    spec: FunctionSpec,
    row: Mapping[str, Any],
    for_s: float,
) -> list[HttpCall]:
    """Some calls, one after the other, with pauses that are as long on average, as of a server that
    is busy for half of its time. One that is always busy is faster: its caches are warm, and its
    threads do not sleep.
    """
    dice = random.Random(0)
    body = dumps(row)
    headers = {"content-type": "application/json", "accept": "*/*"}
    taken: list[HttpCall] = []
    until = time.perf_counter() + for_s
    while len(taken) < MOST_CALLS and (len(taken) < LEAST_CALLS or time.perf_counter() < until):
        if spec.sequences is not None:
            number = f"profile-{next(_NUMBERS)}"
            headers |= {"x-sequence-id": number, "x-sequence-start": "1", "x-sequence-end": "1"}
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - began
        if answer.status != http.client.OK:
            raise RequestError(
                f"{spec.name} answered its example with {answer.status}:"
                f" {text[:300].decode(errors='replace')}",
                where=f"{spec.name}.example",
            )
        said = read_timing(answer.headers.get("server-timing", ""))
        taken.append(HttpCall(seconds, *said, connection.host in LOOPBACK))
        time.sleep(min(dice.expovariate(1 / seconds), for_s / LEAST_CALLS))
    return taken

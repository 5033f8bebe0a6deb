"""What the server says of itself while it is loaded: its index, and its metrics. Asking wakes no
function.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.loadtest.asking import ask
from deployments.loadtest.results.records import ServerSample
from runtime.system.messages import clip
from runtime.system.telemetry.function_metrics import (
    BATCH_ROWS,
    ROWS_TOTAL,
    WAITING,
    WAKES,
    WORKER_S,
)

ASK_S: Final = 5.0
"""Longest wait for an answer; a server that is too busy for one is asked again a second later."""

_METRICS: Final[Mapping[str, str]] = {
    WAITING.name: "waiting_rows",
    WAKES.name: "wakes",
    f"{BATCH_ROWS.name}_count": "batches",
    ROWS_TOTAL.name: "rows",
    WORKER_S.name: "busy_s",
}
"""The parts of a sample by the metrics that have them."""

MOST_COUNTED: Final = 1e15
"""Of anything that a server counts; more is none, nor is what is no number."""

_LINE: Final = re.compile(rf"^(?:{'|'.join(_METRICS)})\{{")

_AWAKE: Final = frozenset({"ready", "draining"})


Series = tuple[str, frozenset[tuple[str, str]]]
"""A metric of one process: the part of a sample, and its labels."""


class Counted(NamedTuple):
    """What metrics come to.

    Attributes:
        waiting_rows: by function.
        last: of each counter, when it was seen last.
        risen: how much counters have risen since the first look, by part, function and stage.
    """

    waiting_rows: Mapping[str, int]
    last: Mapping[Series, float]
    risen: Mapping[tuple[str, str, str], float]


def count(metrics: str, before: Counted | None) -> Counted:
    """Metrics, after an earlier look at them. Each process is followed by itself: where one ends,
    the sum of all falls, and what the others did is none the less.

    Args:
        metrics: in Prometheus' text form.
        before: None: this is the first look.
    """
    waiting = Counter[str]()
    last = {} if before is None else dict(before.last)
    risen = {} if before is None else dict(before.risen)
    for (part, labels), value in _read_series(metrics).items():
        of = dict(labels)
        function = of.get("function", "")
        if part == "waiting_rows":
            waiting[function] += int(value)
            continue
        if before is not None:
            seen = last.get((part, labels), 0.0)
            key = part, function, of.get("stage", "")
            # one that is smaller has begun again, with its process
            risen[key] = risen.get(key, 0.0) + (value - seen if value >= seen else value)
        last[part, labels] = value
    return Counted(waiting, last, risen)


def read_samples(
    at: float,
    index: Collection[Mapping[str, Any]],
    counted: Counted,
    functions: Collection[str],
) -> list[ServerSample]:
    """One sample for each of some functions.

    Args:
        at: seconds since the beginning of the run.
        index: the functions of the server, as ``GET /`` lists them.
    """
    risen = _by_function(counted.risen)
    return [
        ServerSample(
            at=at,
            function=entry["name"],
            replicas=_whole(entry.get("replicas", entry["state"] in _AWAKE)),
            state=clip(str(entry["state"])),
            memory_bytes=_whole(entry.get("memory_bytes", 0)),
            waiting_rows=counted.waiting_rows.get(entry["name"], 0),
            wakes=int(risen.get(("wakes", entry["name"]), 0)),
            batches=int(risen.get(("batches", entry["name"]), 0)),
            rows=int(risen.get(("rows", entry["name"]), 0)),
            busy_s=risen.get(("busy_s", entry["name"]), 0.0),
        )
        for entry in index
        if entry["name"] in functions
    ]


def _whole(value: float) -> int:
    if not 0 <= value <= MOST_COUNTED:
        raise ValueError(f"{value} is no count")
    return int(value)


def _read_series(metrics: str) -> dict[Series, float]:
    lines = "".join(f"{line}\n" for line in metrics.splitlines() if _LINE.match(line))
    return {
        (_METRICS[sample.name], frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(lines)
        for sample in family.samples
        if 0 <= sample.value <= MOST_COUNTED
    }


def _by_function(risen: Mapping[tuple[str, str, str], float]) -> dict[tuple[str, str], float]:
    """By part and function; of batches, those of the stage with the most."""
    most: dict[tuple[str, str], float] = {}
    for (part, function, _), value in risen.items():
        most[part, function] = max(value, most.get((part, function), 0.0))
    return most


class ServerWatch:
    """Asks a server for samples; keeps one connection.

    Args:
        client: of the server's URL.

    Mutable state: ``_counted``, at the last look; None before the first.
    """

    def __init__(self, client: httpx.Client, functions: Collection[str]) -> None:
        self._client, self._functions = client, functions
        self._counted: Counted | None = None

    def sample(self, at: float) -> list[ServerSample]:
        """A sample for each function; none where the server gives no answer."""
        try:
            index = self._get("/").json()["functions"]
            self._counted = count(self._get("/metrics").text, self._counted)
            return read_samples(at, index, self._counted, self._functions)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def _get(self, path: str) -> httpx.Response:
        return ask(self._client, path, ASK_S).raise_for_status()

"""What the server says of itself while it is loaded: its index, and its metrics. Asking wakes no
function.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.loadtest.results.records import ServerSample
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

_LINE: Final = re.compile(rf"^(?:{'|'.join(_METRICS)})\{{")

_AWAKE: Final = frozenset({"ready", "draining"})


def read_samples(
    at: float, index: Collection[Mapping[str, Any]], metrics: str, functions: Collection[str]
) -> list[ServerSample]:
    """One sample for each of some functions.

    Args:
        at: seconds since the beginning of the run.
        index: the functions of the server, as ``GET /`` lists them.
        metrics: in Prometheus' text form.
    """
    counted = _counts(metrics)
    return [
        ServerSample(
            at=at,
            function=entry["name"],
            replicas=entry.get("replicas", int(entry["state"] in _AWAKE)),
            state=entry["state"],
            memory_bytes=entry.get("memory_bytes", 0),
            waiting_rows=int(counted.get(("waiting_rows", entry["name"]), 0)),
            wakes=int(counted.get(("wakes", entry["name"]), 0)),
            batches=int(counted.get(("batches", entry["name"]), 0)),
            rows=int(counted.get(("rows", entry["name"]), 0)),
            busy_s=counted.get(("busy_s", entry["name"]), 0.0),
        )
        for entry in index
        if entry["name"] in functions
    ]


def _counts(metrics: str) -> dict[tuple[str, str], float]:
    """Sums over processes by part and function; of batches, those of the stage with the most."""
    lines = "".join(f"{line}\n" for line in metrics.splitlines() if _LINE.match(line))
    sums: dict[tuple[str, str, str], float] = {}
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            labels = sample.labels
            key = _METRICS[sample.name], labels.get("function", ""), labels.get("stage", "")
            sums[key] = sums.get(key, 0.0) + sample.value
    most: dict[tuple[str, str], float] = {}
    for (part, function, _), value in sums.items():
        most[part, function] = max(value, most.get((part, function), 0.0))
    return most


class ServerWatch:
    """Asks a server for samples; keeps one connection.

    Args:
        client: of the server's URL.
    """

    def __init__(self, client: httpx.Client, functions: Collection[str]) -> None:
        self._client, self._functions = client, functions

    def sample(self, at: float) -> list[ServerSample]:
        """A sample for each function; none where the server gives no answer."""
        try:
            index = self._get("/").json()["functions"]
            return read_samples(at, index, self._get("/metrics").text, self._functions)
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []

    def _get(self, path: str) -> httpx.Response:
        answer = self._client.get(
            path, timeout=ASK_S, headers={"accept": "application/json, text/plain"}
        )
        answer.raise_for_status()
        return answer

"""Requests of the function `work`, with the check of their answers, and who answered them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from loadtests.answers import WrongAnswer
from loadtests.bench.wake import declare
from loadtests.faults.stages import Fault, digest
from loadtests.ledger.outcome import Request

NAME = "work"
PATH = f"/v2/models/{NAME}"
STAGE = "loadtests.faults.stages:Work"
POISON = -1.0
"""Of ``ms``: the stage fails on it."""
FAILED = "function_failed"
"""The code of a row that its stage failed on."""

AROUND_BYTES = 60
"""Of a body beside its padding, about."""


def declared(
    replicas: int, workers: int = 4, *, most: int | None = None, version: int = 1, fault: Fault = "", name: str = NAME, **more: Any
) -> declare.Application:
    """The function, a row a run: its rows take their time one after the other.

    Args:
        replicas: kept; 0 lets it sleep in the host.
        workers: threads of each replica.
        more: other sections of its ``args``, which go over those made here.
    """
    graph = [{"stage": NAME, "python": STAGE, "with": {"version": version, "fault": fault}}]
    sections = {
        "batching": {"max_batch_size": 1},
        "resources": {"num_cpus": workers},
        "autoscaling": {"min_replicas": replicas, "max_replicas": max(1, most or replicas)},
        "example": {"key": "example", "ms": 0.0, "padding": ""},
    }
    return declare.function(name, graph, **{**sections, **more})


class Work:
    """Makes requests, and remembers which processes answered.

    Args:
        tag: begins every id.
        ms: how long the request of a number works.
        body_bytes: about how large its body is, 60 at least.
        request: other attributes of the request of a number.
    """

    # Mutable state: when each process, and each version, was seen last.

    def __init__(
        self,
        tag: str,
        ms: Callable[[int], float],
        body_bytes: Callable[[int], int] = lambda _: 2000,
        path: str = PATH,
        request: Callable[[int], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        self.pids: dict[int, float] = {}
        self.versions: dict[int, float] = {}
        self._tag, self._ms, self._body_bytes, self._path, self._request = tag, ms, body_bytes, path, request

    def __call__(self, number: int) -> Request:
        """The request of a number."""
        key, ms, padding = f"{self._tag}-{number}", self._ms(number), "." * (self._body_bytes(number) - AROUND_BYTES)
        body = json.dumps({"key": key, "ms": ms, "padding": padding}).encode()
        expected = digest(key, ms, padding)

        def check(answer: Any) -> None:
            if answer["digest"] != expected:
                raise WrongAnswer(f"digest {answer['digest']}, not {expected}")
            self.pids[answer["pid"]] = self.versions[answer["version"]] = time.time()

        return Request(key, self._path, body, check, **{"refusal": FAILED if ms < 0 else "", **self._request(number)})


def spread_ms(low: float, high: float) -> Callable[[int], float]:
    """Every length between two, each number its own."""
    return lambda number: low + (number * 7919 % 101) / 100 * (high - low)

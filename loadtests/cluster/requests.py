"""Requests of the function `work` and of functions that sleep, with the check of their answers, and which machines gave them."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from loadtests.answers import WrongAnswer
from loadtests.bench.wake import declare
from loadtests.faults.stages import digest
from loadtests.faults.work import spread_ms
from loadtests.ledger.outcome import Request

STAGE: Final = "loadtests.cluster.stages:work"
SLEEPERS: Final = 12
BODY_BYTES: Final = 2000
DEADLINE_S: Final = 20.0


def declared(replicas: int) -> list[declare.Application]:
    """`work` with so many replicas of its own, if any, and functions in the shared hosts, which share them by their names."""
    return [*([function("work", replicas)] if replicas else []), *(function(sleeper(number), 0) for number in range(SLEEPERS))]


def function(name: str, replicas: int) -> declare.Application:
    """One of them; it works on four rows at a time."""
    return declare.function(
        name,
        [{"stage": "work", "python": STAGE}],
        batching={"max_batch_size": 1},
        resources={"num_cpus": 4 if replicas else 1},
        autoscaling={"min_replicas": replicas, "max_replicas": max(1, replicas)},
        limits={"request_timeout_s": DEADLINE_S},
        example={"key": "example", "ms": 0.0, "padding": ""},
    )


def sleeper(number: int) -> str:
    """The name of one that sleeps."""
    return f"rare{number % SLEEPERS}"


class Asked:
    """Makes requests, of `work` or of one sleeper after the other.

    Args:
        tag: begins every id.
    """

    # Mutable state: for each machine, when it answered last, and how often.

    def __init__(self, tag: str, *, rare: bool = False) -> None:
        self.machines: dict[str, float] = {}
        self.answers: dict[str, int] = {}
        self._tag, self._rare, self._ms = tag, rare, spread_ms(5, 30)

    def __call__(self, number: int) -> Request:
        """The request of a number."""
        key, ms, padding = f"{self._tag}-{number}", self._ms(number), "." * BODY_BYTES
        expected = digest(key, ms, padding)

        def check(answer: Any) -> None:
            if answer["digest"] != expected:
                raise WrongAnswer(f"digest {answer['digest']}, not {expected}")
            self.machines[answer["machine"]] = time.time()
            self.answers[answer["machine"]] = self.answers.get(answer["machine"], 0) + 1

        path = f"/v2/models/{sleeper(number) if self._rare else 'work'}"
        body = json.dumps({"key": key, "ms": ms, "padding": padding}).encode()
        return Request(key, path, body, check, DEADLINE_S)

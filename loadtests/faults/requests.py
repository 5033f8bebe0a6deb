"""Requests of faults, each with the check of its answer: of the function `work`, of shipped
functions, and batches with a poisoned row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from deployments.loadtest.calls.answers import WrongAnswer, check_alike, require
from loadtests import declare
from loadtests.ledger import Make, Request
from loadtests.samples import Check, Sample, check_refused, each
from loadtests.server import path_of
from loadtests.stages import Fault, digest

POISON_MS = -1.0
"""The stage fails on it."""

FAILED = "function_failed"
"""The code of a row that its stage failed on."""

AROUND_BYTES = 60
"""Of a body without its padding, about."""

OUT_OF_VOCABULARY = 1_000_000
"""A token that the model has no row for: ONNX Runtime fails the whole batch."""


def work_function(
    replicas: int,
    workers: int = 4,
    version: int = 1,
    fault: Fault = "",
    name: str = "work",
    **more: Any,
) -> declare.Application:
    """`work`, a row a run: its rows take their time one after the other.

    Args:
        replicas: kept; 0 lets it sleep in the host.
        workers: threads of each replica.
        more: other sections of its ``args``, which replace those made here.
    """
    stage = {"stage": "work", "python": "loadtests.stages:Work"}
    sections = {
        "batching": {"max_batch_size": 1},
        "resources": {"num_cpus": workers},
        "autoscaling": {"min_replicas": replicas, "max_replicas": max(1, replicas)},
        "example": {"key": "example", "ms": 0.0, "padding": ""},
    }
    graph = [{**stage, "with": {"version": version, "fault": fault}}]
    return declare.function(name, graph, **{**sections, **more})


def spread_ms(number: int) -> float:
    """10 to 50 ms of work, each number its own."""
    return 10 + (number * 7919 % 101) / 100 * 40


class WorkRequests:
    """Makes requests of `work`, and remembers which processes and versions answered.

    Args:
        tag: begins every id.
        ms: how long the request of a number works.
        body_bytes: about how large its body is, 60 at least.
        more: other attributes of the request of a number.
    """

    # Mutable state: when each process, and each version, answered last.

    def __init__(
        self,
        tag: str,
        ms: Callable[[int], float] = spread_ms,
        body_bytes: Callable[[int], int] = lambda _: 2000,
        more: Callable[[int], Mapping[str, Any]] = lambda _: {},
        name: str = "work",
    ) -> None:
        self.tag = tag
        self.pids: dict[int, float] = {}
        self.versions: dict[int, float] = {}
        self._ms, self._body_bytes, self._more, self._path = ms, body_bytes, more, path_of(name)

    def __call__(self, number: int) -> Request:
        """Return the request, with the answer that it must get."""
        key, ms = f"{self.tag}-{number}", self._ms(number)
        row = {"key": key, "ms": ms, "padding": "." * (self._body_bytes(number) - AROUND_BYTES)}
        expected = digest(key, ms, str(row["padding"]))

        def check(answer: Any) -> None:
            if answer["digest"] != expected:
                raise WrongAnswer(f"digest {answer['digest']}, not {expected}")
            self.pids[answer["pid"]] = self.versions[answer["version"]] = time.time()

        refusal = FAILED if ms < 0 else ""
        body = json.dumps(row).encode()
        return Request(key, self._path, body, check, refusal=refusal, **self._more(number))


def shipped(tag: str, chosen: Sequence[Sample]) -> Make:
    """Samples of a shipped function in turn."""

    def make(number: int) -> Request:
        sample = chosen[number % len(chosen)]
        return Request(f"{tag}-{number}", sample.path, sample.body, sample.check)

    return make


class PoisonedBatches:
    """Calls of the bare model whose rows are one batch, or one row of a batch, with a poisoned row
    among them.

    Args:
        texts: token ids of each.
        solo: the answer to each alone.
    """

    def __init__(self, size: int, texts: Sequence[Sequence[int]], solo: Sequence[Any]) -> None:
        self._size, self._texts = size, texts
        self._checks: list[Check] = [partial(check_alike, first=one) for one in solo]
        self._poisoned = model_row([OUT_OF_VOCABULARY, *texts[0][1:]])
        self._path = path_of(f"minilm-{size}")

    def batch(self, number: int) -> Request:
        """So many rows, one of them poisoned, each time at another place."""
        place = number % self._size
        chosen = [(number * 31 + index) % len(self._texts) for index in range(self._size)]
        rows = [model_row(self._texts[which]) for which in chosen]
        checks = [self._checks[which] for which in chosen]
        rows[place], checks[place] = self._poisoned, check_failed
        body, name = json.dumps(rows).encode(), f"batch-{self._size}-{number}"
        return Request(name, self._path, body, each(checks))

    def single(self, number: int) -> Request:
        """One row; of as many as are in a batch, one is poisoned: batches then mix callers."""
        which, is_poisoned = number % len(self._texts), number % self._size == 0
        row = self._poisoned if is_poisoned else model_row(self._texts[which])

        name, refusal = f"single-{self._size}-{number}", FAILED if is_poisoned else ""
        body = json.dumps(row).encode()
        return Request(name, self._path, body, self._checks[which], refusal=refusal)


def check_failed(answer: Any) -> None:
    """The error of a row that its stage failed on."""
    check_refused(answer)
    require(answer["code"] == FAILED, f"a poisoned row got {answer['code']}, not {FAILED}")


def model_row(ids: Sequence[int]) -> dict[str, Any]:
    """A row of the bare model."""
    ones, zeros = [1] * len(ids), [0] * len(ids)
    return {"input_ids": list(ids), "attention_mask": ones, "token_type_ids": zeros}

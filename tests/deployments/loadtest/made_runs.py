"""Runs that are made up: a function that wakes, queues in a spike, refuses some calls and sends streams."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from deployments.loadtest.results.records import (
    NO_ANSWER,
    CallRecord,
    GeneratorSample,
    Promise,
    Run,
    ServerSample,
)

STARTED = 1_800_000_000.0
"""Seconds since the epoch, of every run that is made up."""


@dataclass(frozen=True)
class MadeFunction:
    """What a function does under load.

    Attributes:
        rate: calls a second, on average.
        service_ms: of a call that waits for nothing, the median.
        wake_s: of the first call, and of one that found it asleep.
        spike: from when to when it gets six times its rate.
        breaks: share of calls that its server fails.
        streams: each answer is a stream.
    """

    name: str
    rate: float = 60.0
    service_ms: float = 6.0
    wake_s: float = 0.12
    spike: tuple[float, float] = (0.0, 0.0)
    breaks: float = 0.002
    streams: bool = False
    promise: Promise | None = None


EMBED = MadeFunction("embed", 120, 6, spike=(32, 40), promise=Promise(8, 25, 60, 0.99, 0.99))
CAPTION = MadeFunction(
    "caption", 12, 45, 0.6, breaks=0.02, streams=True, promise=Promise(latency_p95_ms=150)
)
FORECAST = MadeFunction("forecast", 30, 2.2, 0.01)


def make_run(
    *functions: MadeFunction, seconds: float = 60.0, seed: int = 1, warm_up_s: float = 5.0
) -> Run:
    """A run of some functions; with the same seed the same."""
    functions = functions or (EMBED, CAPTION, FORECAST)
    made = [_Machine(function, seconds, seed) for function in functions]
    dice = random.Random(seed)
    return Run(
        url="http://127.0.0.1:8000",
        shape=f"steady --rps {sum(function.rate for function in functions):g} --for {seconds:g}",
        rates={function.name: function.rate for function in functions},
        seconds=seconds,
        warm_up_s=warm_up_s,
        seed=seed,
        started=STARTED,
        machine={"processor": "2 cores, made up", "Wakeful": "0.1.0", "Python": "3.11.7"},
        promises={f.name: f.promise for f in functions if f.promise is not None},
        calls=sorted((call for one in made for call in one.calls), key=lambda call: call.intended),
        server=sorted(
            (sample for one in made for sample in one.samples()), key=lambda sample: sample.at
        ),
        generator=[
            GeneratorSample(
                float(at),
                round(dice.lognormvariate(-8.5, 0.5), 6),
                round(dice.gauss(0.34, 0.03), 3),
                dice.randrange(1, 9),
            )
            for at in range(int(seconds))
        ],
        cpu_s=round(0.8 * seconds, 3),
        notes=["made up by a test"],
        prices={"cpu": 0.04, "memory": 0.005},
        sent={function.name: "0123456789abcdef" for function in functions},
    )


class _Machine:
    """Calls of one function through a queue with as many workers as replicas."""

    def __init__(self, function: MadeFunction, seconds: float, seed: int) -> None:
        self.function, self.seconds = function, seconds
        self._dice = random.Random(f"{seed} {function.name}")
        self._free = [0.0, 0.0]
        self._woken_at = 0.0
        self._waits: list[tuple[float, float]] = []
        self.calls = [self._call(at) for at in self._arrivals()]

    def _arrivals(self) -> Iterator[float]:
        at = 0.0
        begin, end = self.function.spike
        while at < self.seconds:
            at += self._dice.expovariate(self.function.rate * (6 if begin <= at < end else 1))
            yield at

    def _call(self, intended: float) -> CallRecord:
        function, dice = self.function, self._dice
        sent = intended + dice.lognormvariate(math.log(9e-5), 0.4)
        is_first = not self._waits
        if is_first:
            self._woken_at = sent + function.wake_s
        cold = max(0.0, self._woken_at - sent)
        worker = min(range(2), key=self._free.__getitem__)
        queue = max(0.0, self._free[worker] - sent - cold)
        self._waits.append((intended, queue))
        if queue > 0.25:
            return self._record(intended, sent, sent + 0.0011, 429, "overloaded", cold == 0)
        parts = {
            "queue": queue,
            "pre": 0.05e-3 * function.service_ms,
            "model": 0.8e-3 * function.service_ms * dice.lognormvariate(0, 0.25),
            "post": 0.04e-3 * function.service_ms,
            **({"cold": cold} if cold else {}),
        }
        done = sent + sum(parts.values()) + dice.lognormvariate(math.log(3e-4), 0.5)
        self._free[worker] = done
        if dice.random() < function.breaks:
            status, code = dice.choice([(500, "function"), (504, "deadline"), (NO_ANSWER, "cut")])
            return self._record(intended, sent, done, status, code, cold == 0)
        first = sent + (done - sent) * 0.3 if function.streams else None
        return CallRecord(
            *(function.name, intended, sent, done, 200, "", cold == 0, first, parts),
            dice.randrange(60, 3000),
        )

    def _record(
        self, intended: float, sent: float, done: float, status: int, code: str, is_warm: bool
    ) -> CallRecord:
        return CallRecord(
            self.function.name,
            *(intended, sent, done, status, code),
            None if status == NO_ANSWER else is_warm,
        )

    def samples(self) -> Iterator[ServerSample]:
        by_second: dict[int, list[float]] = {}
        for when, wait in self._waits:
            by_second.setdefault(int(when), []).append(wait)
        rows = batches = 0
        for at in range(int(self.seconds) + 1):
            inside = by_second.get(at - 1, [])
            rows += len(inside)
            longest = max(inside, default=0.0)
            batches += round(len(inside) / (1 + 20 * min(longest, 0.3) * self._dice.random()))
            yield ServerSample(
                at=float(at),
                function=self.function.name,
                replicas=0 if not rows else 2 if longest > 0.1 else 1,
                waiting_rows=int(longest * self.function.rate * 6),
                state="ready" if rows else "asleep",
                wakes=1 if rows else 0,
                batches=batches,
                rows=rows,
                busy_s=round(rows * self.function.service_ms * 0.9e-3, 6),
                memory_bytes=90_000_000 if rows else 0,
            )


def to_microseconds(run: Run) -> Run:
    """The run as a file has it, whose times are whole microseconds."""

    def rounded(call: CallRecord) -> CallRecord:
        return call._replace(
            intended=round(call.intended, 6),
            sent=round(call.sent, 6),
            done=round(call.done, 6),
            first=None if call.first is None else round(call.first, 6),
            stages={name: round(value, 6) for name, value in call.stages.items()},
        )

    return replace(run, calls=[rounded(call) for call in run.calls])

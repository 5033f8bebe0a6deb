"""What is to be sent, as plain data, and which process sends which part of it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from deployments.ingress.tls.clients import NO_FILES, ClientFiles
from deployments.loadtest.arrivals import Arrival, LoadShape, make_arrivals
from deployments.loadtest.calls.load_call import AnswerForm, LoadCall
from deployments.loadtest.generator.open_files import CONNECTIONS
from deployments.loadtest.results.records import Promise

LEAST_LAG_S: Final = 0.01
"""A call that is sent less late than this is on time."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load test.

    Attributes:
        url: of the server, without a path.
        calls: by function, sent in turn; those of a trace by their index.
        forms: of the answers, by function.
        headers: of what the server is asked for besides the calls, which have theirs.
        trust: files with which a server that speaks TLS is asked.
        seed: of the arrivals.
        warm_up_s: at the beginning that counts for nothing.
        promises: by function.
        processes: that send.
        connections: of each of them at once, at most.
        timeout_s: from when a call was to be sent until it is given up.
        ends_sequences: those under way at the end of the load have as long as it took to end.
        notes: what is to be said with the result.
        cautions, prices, sent: as of ``Run``.
    """

    url: str
    calls: Mapping[str, Sequence[LoadCall]]
    forms: Mapping[str, AnswerForm]
    shape: LoadShape
    headers: Mapping[str, str] = field(default_factory=dict)
    trust: ClientFiles = NO_FILES
    seed: int = 0
    warm_up_s: float = 0.0
    promises: Mapping[str, Promise] = field(default_factory=dict)
    processes: int = 1
    connections: int = CONNECTIONS
    timeout_s: float = 60.0
    ends_sequences: bool = True
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)

    @property
    def rest_s(self) -> float:
        """How long sequences have after the load, beside what a call has: one that began last takes
        about as long as the others did, one upon the other.
        """
        has_sequences = any(call.sequence_calls > 1 for of in self.calls.values() for call in of)
        return self.shape.seconds if has_sequences and self.ends_sequences else 0.0

    @property
    def most_lag_s(self) -> float:
        """How late a call may be sent without being counted as late: a tenth of what is promised,
        and not less than a busy machine is at times, unless that is as much as is promised.
        """
        latencies = [
            limit / 1000
            for promise in self.promises.values()
            for limit in (promise.latency_p50_ms, promise.latency_p95_ms, promise.latency_p99_ms)
            if limit is not None
        ]
        if not latencies:
            return LEAST_LAG_S
        shortest = min(latencies)
        return max(min(LEAST_LAG_S, shortest / 2), shortest / 10)

    def schedule(self, part: int = 0) -> Iterator[Scheduled]:
        """The calls of one of the processes, in the order of time."""
        arrivals = make_arrivals(self.shape, self.seed)
        return assign(arrivals, self.calls, part, self.processes)


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What one process is to do.

    Attributes:
        part: of the plan's schedule.
        name: that no other process of any load test has.
    """

    plan: LoadPlan
    part: int
    name: str


class Scheduled(NamedTuple):
    """A call and when it is to be sent.

    Attributes:
        at: seconds since the beginning.
        number: of the call in the whole run.
    """

    at: float
    number: int
    call: LoadCall


def assign(
    arrivals: Iterable[Arrival], calls: Mapping[str, Sequence[LoadCall]], part: int, parts: int
) -> Iterator[Scheduled]:
    """One part of a schedule, with the call of each arrival: the one that it names, else the
    function's calls in turn. All parts together are the whole, however many there are.
    """
    turns = {function: itertools.cycle(of) for function, of in calls.items()}
    for number, arrival in enumerate(arrivals):
        turn = next(turns[arrival.function])
        if number % parts == part:
            named = arrival.index
            call = turn if named is None else calls[arrival.function][named]
            yield Scheduled(arrival.at, number, call)


def digest(calls: Iterable[LoadCall]) -> str:
    """What is sent, in some letters: where, in which form, and the bodies, in their order."""
    hashed = hashlib.sha256()
    for call in calls:
        for part in (call.method.encode(), call.path.encode(), call.wire.encode(), call.body):
            hashed.update(b"%d:" % len(part))
            hashed.update(part)
    return hashed.hexdigest()[:16]

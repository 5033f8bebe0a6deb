"""One load test as data: each call that was intended, and what the server said of itself meanwhile.

Times are seconds from the beginning of the run, by one clock, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NO_ANSWER = 0
"""The status of a call that got no answer: refused connection, cut, or timed out."""

ENDED = "ended"
"""The code of a call that was under way when the load was ended: what would have become of it is
not known.
"""


class CallRecord(NamedTuple):
    """One call.

    Attributes:
        function: its name.
        intended: when it was to be sent; latency counts from here, whatever kept it.
        sent: when it was sent.
        done: when the last byte of its answer was read, or when it was given up.
        status: of HTTP, or ``NO_ANSWER``.
        code: of the error form; ``wrong_answer`` for an answer that is not what the signature or a
            recorded answer says; the reason for ``NO_ANSWER`` in one word (``refused``,
            ``cut``, ``timeout``; ``unsent``: the generator could open no connection; ``ENDED``);
            empty for a right answer.
        is_warm: it found its function loaded; None: the answer does not say.
        first: when the first item of a stream was read; None for other answers.
        stages: seconds by part of the server (``queue``, ``pre``, ``model``, ``post``, ``cold``),
            of ``Server-Timing``.
        bytes_out: of the answer's body.
    """

    function: str
    intended: float
    sent: float
    done: float
    status: int
    code: str = ""
    is_warm: bool | None = None
    first: float | None = None
    stages: Mapping[str, float] = {}
    bytes_out: int = 0

    @property
    def is_right(self) -> bool:
        """It got a right answer."""
        return self.status == 200 and not self.code

    @property
    def was_ended(self) -> bool:
        """The load was ended before it was answered."""
        return self.status == NO_ANSWER and self.code == ENDED

    @property
    def latency_s(self) -> float:
        """From when it was to be sent until its answer was read."""
        return self.done - self.intended


class ServerSample(NamedTuple):
    """What the server said of one function at one moment, about once a second.

    Attributes:
        replicas: that serve it; 0 while it sleeps.
        waiting_rows: that wait for a worker.
        state: asleep, waking, ready, draining, failed.
        wakes: since the first sample, as are the next three, of all processes together, also of
            those that have ended; they never fall.
        batches, rows: computed.
        busy_s: worker seconds.
        memory_bytes: that it holds.
    """

    at: float
    function: str
    replicas: int
    waiting_rows: int
    state: str
    wakes: int
    batches: int
    rows: int
    busy_s: float
    memory_bytes: int


class GeneratorSample(NamedTuple):
    """The generator itself, about once a second.

    Attributes:
        lag_s: the longest time in this second that a call was sent after it was intended though a
            connection was free: the generator's own fault.
        cpu: share of one core that its busiest process used.
        in_flight: calls under way.
    """

    at: float
    lag_s: float
    cpu: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Promise:
    """An ``slo`` of a function; None: nothing is promised of that.

    Attributes:
        latency_p50_ms, latency_p95_ms, latency_p99_ms: at most.
        success: share of calls with a right answer, at least; from 0 to 1.
        warm: share of calls that find the function loaded, at least; from 0 to 1.
    """

    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    success: float | None = None
    warm: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One load test.

    Attributes:
        url: of the server.
        shape: as it was given: ``steady --rps 200 --for 60``.
        rates: intended calls a second by function, on average.
        seconds: of the load. Calls of a sequence that goes on are intended later
            (``statistics.seconds_of``).
        warm_up_s: at the beginning that counts for nothing.
        seed: of the arrivals.
        started: seconds since the epoch.
        machine: cores, processor, versions, in words.
        promises: by function.
        calls: in the order of ``intended``.
        server, generator: samples in the order of time.
        cpu_s: processor seconds that the server's processes used meanwhile; None: it is elsewhere.
        was_limited: why the generator and not the server was the limit; empty when it was not.
        is_partial: it was ended before its time.
        notes: what else is to be said.
        cautions: why the load is another than it seems.
        prices: by the hour, of a processor (``cpu``) and of a GB of memory (``memory``).
        sent: a digest of what was sent, by function; empty: it is not known.
    """

    url: str
    shape: str
    rates: Mapping[str, float]
    seconds: float
    warm_up_s: float
    seed: int
    started: float
    machine: Mapping[str, str]
    promises: Mapping[str, Promise]
    calls: Sequence[CallRecord]
    server: Sequence[ServerSample] = ()
    generator: Sequence[GeneratorSample] = ()
    cpu_s: float | None = None
    was_limited: str = ""
    is_partial: bool = False
    notes: Sequence[str] = field(default=())
    cautions: Sequence[str] = field(default=())
    prices: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)

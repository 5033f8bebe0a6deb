"""What a cold start consisted of: its phases, measured from the first call's arrival to the first
response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PHASES = ("route", "queue", "read", "session", "stages", "warm_up", "answer")
"""In the order in which they happen. ``route``: from the arrival to the library; ``queue``: waiting
for memory and for a slot; ``read``: reading the declaration and the files; ``session``: loading the
models; ``stages``: constructing Python stages; ``warm_up``: first runs; ``answer``: from loaded to
the head of the first response."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One cold start, from the first call's arrival to the first response.

    Attributes:
        name: the function's.
        at: seconds since the epoch when it began.
        phases: seconds by name of ``PHASES``; those that took place.
        total_s: seconds from the beginning to the first response, or to the end of the load when no
            client waited. More than the sum of the phases: work changes threads, and other calls
            are answered in between.
    """

    name: str
    at: float
    phases: Mapping[str, float]
    total_s: float

    def __str__(self) -> str:
        parts = ", ".join(
            f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in self.phases.items()
        )
        return f"{self.name} woke in {self.total_s:.3f} s: {parts}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    def server_timing(self) -> bytes:
        """Return entries for ``Server-Timing`` in milliseconds: ``cold``, and ``cold_PHASE`` for
        each phase.
        """
        parts = [
            ("cold", self.total_s),
            *((f"cold_{phase}", seconds) for phase, seconds in self.phases.items()),
        ]
        return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts).encode()


def wake_timing(seconds: float) -> bytes:
    """Return the entry for ``Server-Timing`` of a call that waited for its function to wake, in
    milliseconds. Each such call has its own; ``cold`` is of the wake, and has one.
    """
    return b"wake;dur=%.3f" % (seconds * 1000)


@dataclass(slots=True)
class ColdStartTimer:
    """Measures a cold start under way; times in seconds of ``time.monotonic``.

    Args:
        name: the function's.
        at: seconds since the epoch.
        arrived: when the call that woke the function arrived.
        asked: when the library was asked for the function.

    Mutable state: ``began`` and ``loaded`` (the moments when the load began and ended) and
    ``load_s`` (the phases of the load), each set once.
    """

    name: str
    at: float
    arrived: float
    asked: float
    began: float = 0.0
    loaded: float = 0.0
    load_s: Mapping[str, float] = field(default_factory=dict)

    def finish(self, answered: float | None) -> ColdStart:
        """Return the record, once the function is loaded; ``answered`` is None when no client
        waited for a response.
        """
        seconds = {
            "route": self.asked - self.arrived,
            "queue": self.began - self.asked,
            **self.load_s,
        }
        if answered is not None:
            seconds["answer"] = answered - self.loaded
        end = self.loaded if answered is None else answered
        return ColdStart(
            self.name,
            self.at,
            {phase: seconds[phase] for phase in PHASES if phase in seconds},
            end - self.arrived,
        )

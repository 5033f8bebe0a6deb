"""What a cold start is made of: seconds by phase, from the first caller's arrival to the first answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PHASES = ("route", "queue", "read", "session", "stages", "warm_up", "answer")
"""In the order they happen. ``route``: from the arrival to the library; ``queue``: for a slot, and for room; ``read``: the
declaration and the files looked at; ``session``: the models; ``stages``: Python stages constructed; ``warm_up``: first runs;
``answer``: from loaded to the first answer's head."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One cold start.

    Attributes:
        name: the function's.
        at: seconds since the epoch when it began.
        phases: seconds by name of ``PHASES``; those that took part.
        total_s: seconds from the beginning to the answer, or to the end of the load when nobody waited for an answer. More than the
            phases together: threads were changed, and other calls answered, in between.
    """

    name: str
    at: float
    phases: Mapping[str, float]
    total_s: float

    def __str__(self) -> str:
        parts = ", ".join(f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in self.phases.items())
        return f"{self.name} woke in {self.total_s:.3f} s: {parts}"

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    def server_timing(self) -> bytes:
        """Entries for ``Server-Timing``, in milliseconds: ``cold`` and a ``cold_PHASE`` each."""
        parts = [("cold", self.total_s), *((f"cold_{phase}", seconds) for phase, seconds in self.phases.items())]
        return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts).encode()


@dataclass(slots=True)
class Waking:
    """A cold start under way; times in seconds of ``time.monotonic``.

    Args:
        name: the function's.
        at: seconds since the epoch.
        arrived: when the caller arrived who woke it.
        asked: when the library was asked.

    Mutable state: the two moments below, and ``load_s`` (what the load told of its phases), each set once.
    """

    name: str
    at: float
    arrived: float
    asked: float
    began: float = 0.0
    loaded: float = 0.0
    load_s: Mapping[str, float] = field(default_factory=dict)

    def done(self, answered: float | None) -> ColdStart:
        """The record, once it is loaded; ``answered`` is None when nobody waited for an answer."""
        seconds = {"route": self.asked - self.arrived, "queue": self.began - self.asked, **self.load_s}
        if answered is not None:
            seconds["answer"] = answered - self.loaded
        end = self.loaded if answered is None else answered
        return ColdStart(self.name, self.at, {phase: seconds[phase] for phase in PHASES if phase in seconds}, end - self.arrived)

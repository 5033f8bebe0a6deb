"""A load test as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deployments.loadtest.arrivals import Arrival
from deployments.loadtest.calls.captures import CapturedCall
from deployments.loadtest.calls.load_call import Wire

EACH: Final = ""
"""In the place of a function's name: every one that has no value of its own."""

ByFunction = Mapping[str, float]
"""Numbers by function, and of ``EACH`` other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What is asked for.

    Attributes:
        functions: by name; empty: those that rates, calls or a trace name, else all.
        shape: as ``parse_shape`` reads it.
        rates: calls a second.
        seconds: that count; None: as the shape decides.
        warm_up_s: before them; None: as the shape decides.
        calls: functions (``EACH``: each line says its own) and files.
        trace: files of recorded calls, which ``with_recordings`` reads.
        recorded: their arrivals.
        recorded_calls: by function; the arrivals have their indices.
        promises: of ``Promise``'s attributes, which go before those that are declared.
        headers: of every call, and of what the server is asked for besides.
        connections: of each process at once; None: as many as are usual, or as may be.
        should_skip: leave out lines of files that cannot be used.
        finds_capacity: the rates are those of the first step.
        prices: as of ``Run``.
        cautions: by function, why its load is another than it seems.
    """

    functions: tuple[str, ...] = ()
    shape: str = "steady"
    shape_options: Mapping[str, float] = field(default_factory=dict)
    rates: ByFunction = field(default_factory=dict)
    seconds: float | None = None
    warm_up_s: float | None = None
    calls: tuple[tuple[str, Path], ...] = ()
    trace: tuple[Path, ...] = ()
    recorded: Sequence[Arrival] = ()
    recorded_calls: Mapping[str, Sequence[CapturedCall]] = field(default_factory=dict)
    wire: Wire | None = None
    sequence_calls: int = 1
    promises: Mapping[str, ByFunction] = field(default_factory=dict)
    seed: int = 0
    processes: int = 1
    connections: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    should_skip: bool = False
    finds_capacity: bool = False
    prices: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cautions: Mapping[str, str] = field(default_factory=dict)

"""The sections by name, in the order of a whole run; one that fails leaves the others standing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number
from loadtests.bench.run import attempt
from loadtests.bench.wake import asleep, crowd, promotion, room, sharing, step, thousand
from loadtests.bench.wake.plan import Bench

Section = Callable[[Bench], Iterable[Number]]
"""Measures something; raises what ``attempt`` reports, or an error of reading an answer."""

SECTIONS: Mapping[str, Section] = {
    "embed": lambda bench: asleep.shared(bench, "embed", 120, 250),
    "forecast": lambda bench: asleep.shared(bench, "forecast", 30, None),
    "own": asleep.own,
    "crowd": crowd.at_once,
    "stream": crowd.stream,
    "promotion": promotion.promotion,
    "sharing": sharing.price,
    "rare": sharing.rare,
    "step": step.step,
    "gaps": crowd.gaps,
    "thousand": thousand.thousand,
    "room": room.room,
}


def measure(names: frozenset[str], bench: Bench) -> Iterator[Number]:
    """Every number asked for, as it is found."""
    for name, section in SECTIONS.items():
        if name in names:
            bench.say(f"section {name}")
            yield from attempt(bench.say, name, partial(told, section, bench))


def told(section: Section, bench: Bench) -> Iterator[Number]:
    """A section's numbers; an answer that it cannot read is its failure, and not that of the whole run."""
    try:
        yield from section(bench)
    except (ValueError, KeyError) as error:
        raise ChildFailed(f"an answer that cannot be read: {type(error).__name__}: {error}") from error

"""Who is declared, by name and by prefix; and who follows whom when a function is declared anew while it serves.

The new version, its *successor*, is loaded and warmed up beside the one that serves, and takes its place in one step of the event loop: no
call waits. If it does not load, the one that serves goes on until somebody declares again. If there is no room for both, or the one that
serves falls asleep first, callers wait for the successor as for any function that sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from runtime.errors import NotFound
from runtime.flights import Flights
from runtime.holding import Declared, Holding
from runtime.residents import Residents
from runtime.wording import did_you_mean

SIMILAR = 200
"""Names compared with an unknown one at most: each costs microseconds of everybody's time."""


class Register:
    """The holdings of a library.

    Args:
        residents: unload whoever is followed.
        flights: load whoever follows.
        on_change: hears the name of a function whose version has changed, or whose successor has failed.

    Mutable state, on the event loop only: ``_holdings`` (by name; each knows its successor) and ``_prefixes`` (the same by route prefix).
    """

    def __init__(self, residents: Residents, flights: Flights, on_change: Callable[[str], None]) -> None:
        self._residents = residents
        self._flights = flights
        self._on_change = on_change
        self._holdings: dict[str, Holding] = {}
        self._prefixes: dict[str, Holding] = {}
        self._longest_prefix = 0

    def __iter__(self) -> Iterator[Holding]:
        """In the order of their declaration."""
        return iter(tuple(self._holdings.values()))

    def declare(self, declared: Iterable[Declared]) -> None:
        """Another set of functions: who is gone is unloaded, who changed is followed, other tunables hold at once, the rest stays."""
        former, self._holdings = self._holdings, {}
        for one in declared:
            name = one.spec.name
            holding = former.pop(name, None)
            self._holdings[name] = Holding(one) if holding is None else self._anew(holding, one)
        for holding in former.values():
            self._retire(holding)
        self._index()
        self._residents.stir()

    def get(self, name: str) -> Holding | None:
        """The version that answers a call made now."""
        holding = self._holdings.get(name)
        if holding is None or holding.function is not None or holding.successor is None or holding.successor.reason:
            return holding
        return self._follow(holding)

    def require(self, name: str) -> Holding:
        """The same.

        Raises:
            NotFound: no such function is declared.
        """
        holding = self.get(name)
        if holding is None:
            raise NotFound(f"no function is named so{did_you_mean(name[:128], _like(name, self._holdings))}.")
        return holding

    def find(self, path: str) -> Holding | None:
        """Whose prefix a path is under; the longest wins, on whole segments."""
        prefix = path[: self._longest_prefix + 1]
        while True:
            holding = self._prefixes.get(prefix)
            if holding is not None:
                return holding
            cut = prefix.rfind("/")
            if cut < 0:
                return None
            prefix = prefix[:cut]

    def near(self, path: str) -> Iterator[str]:
        """A few prefixes that a path may have been meant to be under."""
        return _like(path, self._prefixes)

    def _anew(self, holding: Holding, declared: Declared) -> Holding:
        """Who has the name after another declaration of it."""
        if holding.takes(declared):
            self._retire_successor(holding)
            return holding
        if holding.successor is not None and not holding.successor.takes(declared):
            self._retire_successor(holding)
        successor, holding.successor = holding.successor or Holding(declared), None
        if holding.function is None:
            self._retire(holding)
            return successor
        holding.successor = successor
        if successor.flight is None:
            successor.is_tried = False  # nobody waits for it: it is warmed up as well
            now = time.monotonic()
            flight = self._flights.begin(successor, now, now)
            flight.add_done_callback(lambda flight: self._landed(holding, successor, flight))
        return holding

    def _landed(self, holding: Holding, successor: Holding, flight: asyncio.Task[None]) -> None:
        if holding.successor is not successor or flight.cancelled():
            return
        if not successor.reason:  # loaded; or it found no room, and finds some when the former has left
            self._follow(holding)
        self._on_change(holding.name)

    def _follow(self, holding: Holding) -> Holding:
        successor, holding.successor = holding.successor, None
        assert successor is not None
        self._holdings[holding.name] = successor
        self._index()
        self._retire(holding)
        return successor

    def _retire(self, holding: Holding) -> None:
        self._retire_successor(holding)
        holding.is_retired = True
        self._residents.unload(holding, "changed")

    def _retire_successor(self, holding: Holding) -> None:
        successor, holding.successor = holding.successor, None
        if successor is not None:
            self._retire(successor)

    def _index(self) -> None:
        self._prefixes = {holding.spec.route_prefix: holding for holding in self._holdings.values()}
        self._longest_prefix = max(map(len, self._prefixes), default=0)


def _like(word: str, known: Iterable[str]) -> Iterator[str]:
    return islice((one for one in known if abs(len(one) - len(word)) <= 2), SIMILAR)

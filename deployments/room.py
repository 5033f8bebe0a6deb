"""What still fits in the cluster, and who lacks room or has some to spare; shared by the policies of one controller.

Ray is asked in a thread, since its answer takes a call to another process and the controller's loop must not wait: every ``CALM_S``
while there is traffic, every second while somebody lacks room, and not at all otherwise. It is asked machine by machine: of two halves of
a replica's need, free on two machines, no replica comes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.rayprivate import free_by_node
from runtime.scaling import yields

CALM_S: Final = 10.0
"""Age of an answer that is asked for anew while there is traffic: a step up then needs no question first."""

PRESSED_S: Final = 1.0
"""Likewise, while somebody lacks room."""

OLD_S: Final = 30.0
"""An answer older than this is none."""

SILENT_S: Final = 2.0
"""A claim that is not repeated for ten ticks of the controller is of a function that has gone."""

LEAVING_S: Final = 10.0
"""A replica that was given up answers what it has before its room is free; until then nobody is asked for that room again."""

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a function said last, and when: replicas that it lacks or could spare, and since when it could."""

    at: float
    missing: int
    spare: int
    spare_at: float
    needs: Mapping[str, float]


class Room:
    """The free resources, and the claims on them.

    Mutable state: ``_free`` and ``_at``, the last answer less what was taken since, guarded by ``_lock``. On the controller's loop:
    ``_claims`` by function, ``_leaving`` (when, how many were given up), ``_asked_at`` and ``_thread`` of the last question.

    Args:
        ask: what is free, by resource, of each machine of the cluster; may take its time, and may fail.
    """

    def __init__(self, ask: Callable[[], Sequence[Mapping[str, float]]] = free_by_node) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._free: list[dict[str, float]] = []
        self._at = float("-inf")
        self._claims: dict[str, Claim] = {}
        self._leaving: list[tuple[float, int]] = []
        self._asked_at = float("-inf")
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        lacking = {name: claim.missing for name, claim in self._claims.items() if claim.missing}
        return f"<Room {self._free}: lacking {lacking}>"

    def fits(self, needs: Mapping[str, float], now: float) -> int | None:
        """How many replicas of such needs would fit; None when that is not known. Never waits; a new answer may be on its way."""
        if now - self._asked_at > (PRESSED_S if self._lacking(now) else CALM_S):
            self.refresh()
        with self._lock:
            return None if now - self._at > OLD_S or not needs else sum(how_many(free, needs) for free in self._free)

    def starts(self) -> int:
        """Replicas that may be starting at once: one for each core, where all machines have as many. A start is a second of one core, most
        of it imports: five at once on two cores come late all together, two at a time and the first two serve in half that time."""
        with self._lock:
            machines = len(self._free)
        return max(1, machines) * len(os.sched_getaffinity(0))

    def take(self, needs: Mapping[str, float], count: int) -> None:
        """So many replicas are being started: until Ray is asked again, their needs are not free."""
        with self._lock:
            for _ in range(count if self._free else 0):
                roomiest = max(self._free, key=lambda free: how_many(free, needs))
                for name, amount in needs.items():
                    roomiest[name] = roomiest.get(name, 0.0) - amount

    def give(self, count: int, now: float) -> None:
        """So many replicas were given up on demand; their room is free when they have answered what they have."""
        self._leaving.append((now, count))

    def tell(self, name: str, claim: Claim) -> None:
        """What a function lacks or could spare now."""
        if claim.missing or claim.spare:
            self._claims[name] = claim
        else:
            self._claims.pop(name, None)

    def asked(self, name: str, now: float) -> int:
        """Spare replicas that a function is asked to give up for those that lack room."""
        lacking = self._lacking(now)
        scarce = {resource for claim in lacking for resource in claim.needs}
        spares = [
            (other, claim.spare_at, claim.spare)
            for other, claim in self._claims.items()
            if now - claim.at <= SILENT_S and scarce & set(claim.needs)
        ]
        self._leaving = [(at, count) for at, count in self._leaving if now - at <= LEAVING_S]
        missing = sum(claim.missing for claim in lacking) - sum(count for _, count in self._leaving)
        return yields(spares, missing).get(name, 0)

    def refresh(self) -> threading.Thread:
        """Asks anew, in a thread; that thread, or the one that is still asking."""
        if self._thread is None or not self._thread.is_alive():
            self._asked_at = time.monotonic()
            self._thread = threading.Thread(target=self._look, name="wakeful-room", daemon=True)
            self._thread.start()
        return self._thread

    def _lacking(self, now: float) -> list[Claim]:
        return [claim for claim in self._claims.values() if claim.missing and now - claim.at <= SILENT_S]

    def _look(self) -> None:
        try:
            free = [dict(of_one) for of_one in self._ask()]
        except Exception:
            log.exception("Ray does not say what is free; scaling goes on without knowing what fits.")
            return
        with self._lock:
            self._at, self._free = time.monotonic(), free


ROOM: Final = Room()
"""Of this process: policies are made one by one by Ray, and have no other place to meet."""


def how_many(free: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Replicas of some needs that fit."""
    return max(0, min(int(free.get(name, 0.0) / amount + 1e-9) for name, amount in needs.items()))


def roomiest(free: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each resource the most that any one machine has free: a replica that needs more finds no place."""
    return {name: max(of_one.get(name, 0.0) for of_one in free) for name in {name for of_one in free for name in of_one}}

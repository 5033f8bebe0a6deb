"""Who serves each function, the shared host or a deployment of its own: reports and ``now`` in, things to do and their reasons out.

Nothing here talks to Ray: ``owner`` asks, does, and asks again. The way between the two is in ``steps``.

What the owner knows it can learn again after a restart: applications that stand say who has a deployment of its own, hosts repeat
what they were told to refuse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Final

from deployments.blame import blame, verdict
from deployments.seat import Crime, Seat, Words
from deployments.steps import Do, Sight, fail, renew, step, to, unroute
from runtime.tiers import Thresholds

SILENT_S: Final = 5.0
"""After five missed beats a process is not counted any more."""

YIELD_S: Final = 2.0
"""Least idle time of a deployment that makes room for another."""

LOOKS_IN_DELAY: Final = 200
"""A look is kept for so small a part of ``downscale_delay_s`` at least, so that the whole delay is seen."""


class Placement:
    """All seats.

    Args:
        thresholds: where a function changes its tier.

    Mutable state: ``seats`` by name, ``hosts`` (last word of each), ``_doing`` (names whose ``Do`` is not done yet),
    ``_deaths`` (those heard of).
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self.seats: dict[str, Seat] = {}
        self.hosts: dict[str, tuple[float, Words]] = {}
        self._thresholds = thresholds
        self._doing: set[str] = set()
        self._deaths: deque[str] = deque(maxlen=100)

    def declare(self, functions: Iterable[Words], now: float) -> list[Do]:
        """Takes what ``up`` declares: a new file, or the same again after a restart.

        Returns:
            what changed of those that have a deployment of their own by our decision.
        """
        declared = {data["name"]: data for data in functions}
        todo = []
        for name in [name for name in self.seats if name not in declared]:
            gone = self.seats.pop(name)
            if not gone.fixed and gone.tier == "own":
                todo.append(Do("delete", name))
        for name, data in declared.items():
            seat = self.seats.get(name)
            if seat is None or data["fixed"] != seat.fixed:
                self.seats[name] = Seat(data, tier="own" if data["fixed"] else "host", since=now)
                continue
            former, seat.data = seat.data, data
            if former["args"] == data["args"]:
                continue
            seat.crimes.clear()
            seat.suspected, seat.failures, seat.refusal = [], 0, ""
            if not seat.fixed and seat.tier == "own":
                todo.append(renew(seat, former, now))
        self._doing |= {do.name for do in todo}
        return todo

    def standing(self, names: Iterable[str], now: float, wall: float) -> list[Do]:
        """After a restart: those of ``names`` that we may move have a deployment already, with its prefix or not yet. Each gets it, which
        changes nothing where it has it."""
        todo = []
        for name in names:
            seat = self.seats.get(name)
            if seat is not None and not seat.fixed and seat.tier == "host" and seat.step == "settled":
                seat.decided("host → own: its deployment stands from before the owner of placement restarted", wall)
                to(seat, "routing", now)
                todo.append(Do("deploy", name, routed=True, why=seat.decisions[-1].why))
        self._doing |= {do.name for do in todo}
        return todo

    def heard(self, report: Words, now: float, wall: float) -> Words:
        """Takes a report; the answer says what that process is to do."""
        for death in report.get("deaths", ()):
            self._died(death, wall)
        if report["kind"] == "own":
            seat = self.seats.get(report["function"])
            if seat is not None:
                seat.heard(report["id"], report, now)
            return {}
        source = report["id"]
        for name, told in report.get("refused", {}).items():  # what an owner before us decided
            if name in self.seats and not self.seats[name].crimes:
                self.seats[name].crimes.extend(Crime(**crime) for crime in told["crimes"])
        before = self.hosts.get(source, (0.0, {"functions": {}}))[1]["functions"]
        self.hosts[source] = (now, report)
        for name in before.keys() - report["functions"].keys():
            if name in self.seats:
                self.seats[name].said.pop(source, None)
        for name, of in report["functions"].items():
            if name in self.seats:
                self.seats[name].heard(source, of, now)
        return self._orders(report)

    def _orders(self, report: Words) -> Words:
        loaded = [self.seats[name] for name, of in report["functions"].items() if name in self.seats and of["state"] == "ready"]
        return {
            "peers": {source: said["address"] for source, (_, said) in self.hosts.items() if said.get("address")},
            "load": [seat.name for seat in self.seats.values() if seat.step == "warming" and not self._is_warm(seat)],
            "release": [seat.name for seat in loaded if seat.tier == "own" and seat.step == "settled"],
            "refused": {
                seat.name: {"reason": verdict(seat), "crimes": [asdict(crime) for crime in seat.crimes]}
                for seat in self.seats.values()
                if seat.crimes
            },
        }

    def step(self, now: float, wall: float, apps: Mapping[str, Words], seen: float, free: Mapping[str, float]) -> list[Do]:
        """What is to be done now.

        Args:
            apps: Ray's applications by name: ``state``, ``replicas``, ``message``.
            seen: when Ray was asked for them. Of a function for which an order was done since, they say nothing.
            free: resources of the cluster that nobody has, by Ray's names.
        """
        self.hosts = {source: word for source, word in self.hosts.items() if word[0] > now - SILENT_S}
        todo: list[Do] = []
        for seat in self.seats.values():
            seat.forget(now - SILENT_S)
            if not seat.said and seat.step == "settled" and seat.tier == "host" and not seat.crimes:
                continue  # asleep, as most are
            seat.look(now, seat.data["args"]["autoscaling"]["downscale_delay_s"] / LOOKS_IN_DELAY)
            if seat.fixed or seat.name in self._doing or seat.ordered_at > seen:
                continue
            sight = Sight(now, wall, apps.get(seat.name), free, self._is_warm(seat))
            todo += filter(None, [step(seat, sight, self._thresholds), self._yielding(seat, now, wall)])
        self._doing |= {do.name for do in todo}
        return todo

    def done(self, name: str, error: str, now: float, wall: float) -> list[Do]:
        """What ``step`` asked for has been done, or failed; what follows from that."""
        self._doing.discard(name)
        seat = self.seats.get(name)
        if seat is None:
            return []
        seat.ordered_at = now
        if seat.step == "deleting":
            to(seat, "settled", now)
            seat.tier = "host"
            return []
        do = fail(seat, error, now, wall) if error else None
        self._doing |= {name} if do else set()
        return [do] if do else []

    def _died(self, death: Words, wall: float) -> None:
        """Somebody brought a process down, or is suspected of it; told once, whoever tells it again."""
        if death["key"] in self._deaths:
            return
        self._deaths.append(death["key"])
        for name, crime in blame(death, self.seats):
            seat = self.seats[name]
            seat.crimes.append(crime)
            seat.decided(crime.how + ("; again, so nobody runs it any more" if seat.is_quarantined else ""), wall)

    def _yielding(self, wanting: Seat, now: float, wall: float) -> Do | None:
        """Where a function lacks room for a deployment, the one that has been idle longest makes some."""
        if not wanting.lacks or self._doing:
            return None
        idle = [
            seat
            for seat in self.seats.values()
            if seat.tier == "own" and seat.step == "settled" and not (seat.fixed or seat.crimes) and seat.looks
            if not seat.looks[-1].in_flight and seat.looks[-1].idle_s > YIELD_S
        ]
        if not idle:
            return None
        longest = max(idle, key=lambda seat: seat.looks[-1].idle_s)
        why = f"own → asleep: idle for {longest.looks[-1].idle_s:.0f} s, yields its place to {wanting.name}"
        longest.decided(why, wall)
        return unroute(longest, why, now)

    def _is_warm(self, seat: Seat) -> bool:
        return any(self.hosts[source][1]["functions"].get(seat.name, {}).get("state") == "ready" for source in self.hosts)

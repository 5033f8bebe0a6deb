"""Which version of each application stands after an update, and in what order it comes to that: decisions, nothing is started here.

First come processes of their own, beside what serves; a function that the host serves until then starts without a prefix, so that nobody
is sent to it before it runs. Then it is given the prefix, and what did not start goes back to the version before. Then whoever is told of
the functions hears of those that did start. Last goes what the host has taken over, and parts that nobody calls any more.

A part and the function that calls it go on together or not at all: the version before of one may not know the other's new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deployments.home import Deployed
from deployments.plan import Plan, changes, fingerprint, is_told
from deployments.reasons import reason

Words = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Succession:
    """An update of what stands.

    Attributes:
        wanted: the plan of the file.
        before: what was deployed, by name.
        alive: names of applications that are neither failed nor missing.
        former: the last version of each application that ran, as the driver takes it, by name.
    """

    wanted: Plan
    before: Mapping[str, Deployed]
    alive: frozenset[str]
    former: Mapping[str, Words]

    @property
    def begun(self) -> tuple[Deployed, ...]:
        """What is written down while it goes on: after an interruption, whatever may have changed is deployed again, or deleted."""
        changing = {one["name"] for one in self._changed(self.wanted)}
        going = {name: replace(self.before[name], fingerprint="") for name in self._gone(self.wanted)}
        stays = [replace(one, fingerprint="") if one.name in changing else one for one in self.wanted.deployed if one.name not in going]
        return (*stays, *going.values())

    @property
    def first(self) -> tuple[Words, ...]:
        """What has processes of its own, and changed."""
        own = [one for one in self._changed(self.wanted) if not is_told(one)]
        return tuple({**one, "routed": False} if self._is_hosted(one["name"]) else one for one in own)

    @property
    def gone(self) -> tuple[str, ...]:
        """What the file has no more. It goes at once: its room may be what the others wait for. A part is called until then."""
        return tuple(name for name in self._gone(self.wanted) if name not in self._hosted(self.wanted) and not self.before[name].part_of)

    def refused(self, states: Mapping[str, Words]) -> dict[str, str]:
        """Of ``first``, with the reason, those that did not start though a version before goes on serving.

        Args:
            states: of applications as ``deployments.states`` says them, by name.
        """
        stood = [one["name"] for one in self.first if self._has_former(one["name"])]
        return self.with_kin({name: reason(states[name]["message"]) for name in stood if states[name]["state"] == "failed"})

    def with_kin(self, refused: Mapping[str, str]) -> dict[str, str]:
        """What is refused, and with it its parts and the function that it is a part of, where they have changed and can go back as well."""
        refused = dict(refused)
        changed = {entry.name for entry in self.wanted.deployed if entry != self.before.get(entry.name)}
        kin = [(entry.name, entry.part_of) for entry in self.wanted.deployed if entry.part_of]
        for part, owner in kin:
            if part in refused and owner in changed and self._has_former(owner):
                refused.setdefault(owner, f"it goes with {part}, which did not start.")
        for part, owner in kin:
            if owner in refused and part in changed and self._has_former(part):
                refused.setdefault(part, f"it goes with {owner}, which did not start.")
        return refused

    def kept(self, refused: Mapping[str, str]) -> Plan:
        """The plan, in which what is refused is as it was before, with the parts that it had."""
        parts = self._parts_of(refused)
        applications = [self.former[name] for name in parts if name in self.former]
        for one in self.wanted.applications:
            if is_told(one):
                applications.append(self._told(one, (*refused, *parts)))
            elif one["name"] not in refused:
                applications.append(one)
            elif not self._is_hosted(one["name"]):
                applications.append(self.former[one["name"]])
        told = {one["name"]: fingerprint(one) for one in applications if is_told(one)}
        deployed = (
            replace(self.before[entry.name], note=f"keeps the version before; the new one did not start: {refused[entry.name]}")
            if entry.name in refused
            else replace(entry, fingerprint=told.get(entry.name, entry.fingerprint))
            for entry in self.wanted.deployed
        )
        return replace(self.wanted, applications=tuple(applications), deployed=(*deployed, *(self.before[name] for name in parts)))

    def second(self, kept: Plan, refused: Mapping[str, str]) -> tuple[Words, ...]:
        """What follows once ``first`` is decided: prefixes for those that the host has served, and versions to go back to."""
        return (*self.back(kept, refused), *(one for one in kept.applications if one["name"] in self.moving))

    @staticmethod
    def back(kept: Plan, refused: Collection[str]) -> tuple[Words, ...]:
        """Versions to go back to, of what has processes of its own."""
        return tuple(one for one in kept.applications if one["name"] in refused)

    def third(self, kept: Plan) -> tuple[Words, ...]:
        """Who is told of the functions, once nobody sends calls to the host that it will not know any more."""
        return self.lingering(kept, (one for one in self._changed(kept) if is_told(one)))

    def lingering(self, kept: Plan, told: Iterable[Words]) -> tuple[Words, ...]:
        """Applications that are told of the functions, told as well of parts that go: versions before call them until they are replaced."""
        going = self._going(kept)
        return tuple(self._told(one, going) for one in told) if going else tuple(told)

    @property
    def moving(self) -> frozenset[str]:
        """Functions that leave the host."""
        return frozenset(one["name"] for one in self.first if "routed" in one)

    def told(self, kept: Plan) -> dict[str, str]:
        """The ``identity`` of functions that others load, the host or the owner of placement, and that changed, by name."""
        functions = {one["name"]: one for sharing in kept.sharing for one in sharing["args"]["functions"]}
        changed = [entry for entry in kept.deployed if entry.hosted and entry.name in self.before and entry != self.before[entry.name]]
        return {entry.name: functions[entry.name]["identity"] for entry in changed if self.before[entry.name].hosted}

    def last(self, kept: Plan, refused: Mapping[str, str]) -> tuple[tuple[Words, ...], tuple[str, ...]]:
        """What ends an update: who is told of parts that nobody calls any more; and applications to delete, of these and of functions that
        the host serves from now on, or as before."""
        stay = {*self.gone, *self._parts_of(refused)}
        moved = [name for name in self._gone(self.wanted) if name not in stay]
        started = {one["name"] for one in self.first}
        told = kept.sharing if self._going(kept) else ()
        return tuple(told), (*moved, *(name for name in refused if name in started and self._is_hosted(name)))

    def _going(self, kept: Plan) -> list[str]:
        names = {entry.name for entry in kept.deployed}
        return [entry.name for entry in self.before.values() if entry.part_of and entry.name not in names]

    def remembered(self, kept: Plan, states: Mapping[str, Words]) -> tuple[Words, ...]:
        """The last version of each application that ran, or has not had to."""
        settled = {name for name, state in states.items() if state["state"] in ("ready", "asleep")}
        return tuple(one if one["name"] in settled else self.former.get(one["name"], one) for one in kept.applications)

    def _changed(self, plan: Plan) -> tuple[Words, ...]:
        return changes(plan, self.before.values(), self.alive).applications

    def _gone(self, plan: Plan) -> tuple[str, ...]:
        return changes(plan, self.before.values(), self.alive).gone

    def _is_hosted(self, name: str) -> bool:
        """Whether the host serves it until now, in spite of what the plan says."""
        return name in self.before and self.before[name].hosted and name not in self.alive

    def _parts_of(self, refused: Collection[str]) -> list[str]:
        """What the file has no more, and versions that stay still call."""
        names = {entry.name for entry in self.wanted.deployed}
        return [entry.name for entry in self.before.values() if entry.part_of in refused and entry.name not in names]

    def _has_former(self, name: str) -> bool:
        """Whether a version before goes on serving if this one does not start."""
        return self._is_hosted(name) or (name in self.before and name in self.alive and name in self.former)

    def _told(self, application: Words, refused: Collection[str]) -> Words:
        args = application["args"]
        before = {one["name"]: one for one in self.former.get(application["name"], {}).get("args", {}).get("functions", ())}
        stays = {name: before[name] for name in refused if name in before}
        functions = [one for one in args["functions"] if one["name"] not in refused or one["name"] in stays]
        names = {one["name"] for one in functions}
        told = [stays.get(one["name"], one) for one in functions] + [one for name, one in stays.items() if name not in names]
        return {**application, "args": {**args, "functions": told}}

    @staticmethod
    def _hosted(plan: Plan) -> frozenset[str]:
        return frozenset(entry.name for entry in plan.deployed if entry.hosted)

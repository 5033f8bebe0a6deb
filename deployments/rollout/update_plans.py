"""What an update goes between: the versions that run and those of a file, what each needs of
others, and the plan at any moment between the two. Decisions only; the steps are decided in
``update_order``.

A split stage and its function are updated together or not at all: the former version of one may not
know the new version of the other. So are a function and a caller of it that know each other's
fields and answers otherwise than before. What a former version calls stays as long as that does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.call_order import (
    Declared,
    Levels,
    called_by,
    calls_of,
    has_other_face,
    needs_of,
    removal_levels,
    start_levels,
)
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import (
    changes,
    declared_functions,
    list_fingerprints,
    mark_changing,
)
from deployments.rollout.prefixes import PrefixChanges, Prefixes
from runtime.artifacts.version import CODE
from runtime.declaration.function_spec import added_to

CHANGING: Final = (
    "an `up` is changing it, or was ended before it had: either version may answer. `wakeful up` "
    "leaves one."
)
"""The note of a function that an update changes, until the update is over."""

Refused = Mapping[str, str]
"""Functions that keep their former version, by name, with the reason."""


@dataclass(frozen=True)
class UpdatePlans:
    """What is deployed, and what is to be.

    Attributes:
        wanted: the plan of the file.
        before: what was deployed, by name.
        alive: names of applications that are neither failed nor missing.
        former: the last version of each application that ran, by name.
        awake: hosted functions that are loaded, or have an own deployment by a decision of the
            placement controller.
        promoted: those with an own deployment.
        is_way_back: it undoes another one, of which some steps were executed: nothing of what may
            not run yet is told anything.
    """

    wanted: Plan
    before: Mapping[str, DeployedApp]
    alive: frozenset[str]
    former: Mapping[str, PlannedApp]
    awake: frozenset[str] = frozenset()
    promoted: frozenset[str] = frozenset()
    is_way_back: bool = False

    @property
    def deployed_meanwhile(self) -> tuple[DeployedApp, ...]:
        """What is written down while the update runs: should it be interrupted, the next `up`
        deploys again, or deletes, all that may have changed.
        """
        gone = {*self._deleted, *self._removed}
        remaining = [entry for entry in self.wanted.deployed if entry.name not in gone]
        told = {name for name, app in self._announced.items() if app != self.former[name]}
        changing = {app.name for app in self._changed(self.wanted)} | told
        leaving = (self.before[name] for name in self.before if name in gone)
        entries = (*mark_changing(remaining, changing), *mark_changing(leaving, gone))
        return tuple(
            replace(entry, note=CHANGING) if entry.name in self._touched | gone else entry
            for entry in entries
        )

    def with_dependents(self, refused: Refused) -> dict[str, str]:
        """What is refused, and what cannot be updated without it, where that has a former version:
        the split stages of a function, the function of a split stage; functions that call each
        other by other fields or answers than before; and other new code in the host, which keeps
        its process for the code of what is refused.
        """
        found = dict(refused)
        while True:
            before = len(found)
            for one, other in self._bound:
                if one in found and self._has_former(other):
                    found.setdefault(other, f"it goes with {one}, which did not start.")
            for kept in self._kept_for(found):  # what it calls has to be what it knows
                for callee in calls_of(self._former, kept):
                    if callee in self._touched and self._has_former(callee):
                        found.setdefault(callee, f"{kept}, which has to stay, calls it.")
            new_code = self._with_new_code
            if self._new_host(self.wanted) and (
                keeping := next((name for name in found if name in new_code), None)
            ):
                for name in new_code & self._hosted_names:
                    found.setdefault(
                        name, f"it shares the host with {keeping}, which did not start."
                    )
            if len(found) == before:
                return found

    def plan_without(self, refused: Refused) -> Plan:
        """The plan, in which what is refused is as before, with the functions that only former
        versions call.
        """
        kept = self._kept_for(refused)
        prefixes = self._prefixes.last(refused, kept)
        plan = self._plan_with(refused, kept, prefixes)
        declared = {app.name: app for app in self._plan_with(refused, kept).applications}
        elsewhere = {app.name for app in plan.applications if app != declared[app.name]}
        fingerprints = list_fingerprints(plan.applications)
        why = {
            name: f"keeps the version before; the new one did not start: {reason}"
            for name, reason in refused.items()
        } | {
            name: "is not in the file any more, and stays for a function that keeps the version "
            "before and calls it."
            for name in kept
            if not self.before[name].part_of
        }
        return replace(
            plan,
            deployed=tuple(
                replace(
                    entry,
                    route_prefix=prefixes.at.get(entry.name, entry.route_prefix),
                    # one that calls what is refused elsewhere than the file says: deployed again
                    fingerprint=fingerprints.get(
                        entry.name, "" if entry.name in elsewhere else entry.fingerprint
                    ),
                    note=why.get(entry.name, entry.note),
                )
                for entry in plan.deployed
            ),
        )

    def last_running(self, plan: Plan, states: Mapping[str, AppState]) -> tuple[PlannedApp, ...]:
        """The last version of each application of a plan that ran, or has not had to."""
        ran = {name for name, state in states.items() if state.state in ("ready", "asleep")}
        return tuple(
            app if app.name in ran else self.former.get(app.name, app) for app in plan.applications
        )

    @cached_property
    def _wanted(self) -> Declared:
        return declared_functions(self.wanted.applications)

    @cached_property
    def _former(self) -> Declared:
        """Of what serves until now."""
        declared = declared_functions(self.former.values())
        return {
            name: args
            for name, args in declared.items()
            if name in self.before and (self.before[name].hosted or name in self.alive)
        }

    @cached_property
    def _touched(self) -> frozenset[str]:
        """New and changed functions."""
        return frozenset(
            entry.name
            for entry in self.wanted.deployed
            if entry.role == "function" and entry != self.before.get(entry.name)
        )

    @cached_property
    def _needs(self) -> dict[str, list[str]]:
        return needs_of(self._wanted, self._former, self._touched)

    @cached_property
    def _levels(self) -> Levels:
        parts = [(stage, function) for stage, function in self._parts if stage in self._former]
        starts_host = self._new_host(self.wanted) is not None
        return start_levels(
            self._needs,
            self._former,
            [*parts, self._with_new_code & self._hosted_names if starts_host else ()],
            [name for name in self._hosted_names if name not in self.before and starts_host],
        )

    @cached_property
    def _removal_levels(self) -> Levels:
        """By function that the file does not have: its callers have a lower number."""
        return removal_levels(self._former, self._removed)

    @property
    def _all_levels(self) -> range:
        return range(max(self._levels.values(), default=0) + 1)

    def _level(self, name: str) -> int:
        return self._levels.get(name, 0)

    @cached_property
    def _prefixes(self) -> PrefixChanges:
        return PrefixChanges.of(self.before.values(), self.wanted.deployed)

    @cached_property
    def _parts(self) -> list[tuple[str, str]]:
        """Split stages of the file that changed, with their functions, which did, too."""
        stages = ((entry.name, entry.part_of) for entry in self.wanted.deployed if entry.part_of)
        return [
            (stage, function) for stage, function in stages if {stage, function} <= self._touched
        ]

    @cached_property
    def _bound(self) -> list[tuple[str, str]]:
        """Pairs of functions, of which the second is not updated if the first is not."""
        needed = [(callee, name) for name, callees in self._needs.items() for callee in callees]
        callers = [
            (name, callee)
            for callee, name in needed
            if has_other_face(name, callee, self._wanted, self._former)
        ]
        # what the file no longer tells: whether the former caller may call the new version
        callers += [
            (name, callee)
            for name in self._touched
            for callee in calls_of(self._former, name)
            if callee in self._touched and callee not in calls_of(self._wanted, name)
        ]
        parts = [*self._parts, *((function, stage) for stage, function in self._parts)]
        return [*parts, *needed, *callers]

    @cached_property
    def _announced(self) -> dict[str, PlannedApp]:
        """What runs, as it is told before anything starts; by name."""
        during = self._prefixes.during(self._wanted)
        return {
            name: self._holding(during.applied_to(app), self._newly_own)
            for name, app in self.former.items()
            if name in self.alive and name in self.before
        }

    def _holding(self, app: PlannedApp, names: Collection[str]) -> PlannedApp:
        """The catalogue, which leaves functions alone; any other application as it is."""
        if app.role != "catalogue" or not names:
            return app
        return replace(app, args={**app.args, "held": sorted(names)})

    def _started(self, level: int, refused: Collection[str] = ()) -> tuple[PlannedApp, ...]:
        """The deployments that a level starts; without a prefix where the host serves so far."""
        return tuple(
            replace(app, is_routed=False) if self._is_in_host(app.name) else app
            for app in self._changed(self._plan_at(level, refused))
            if not app.lists_functions
            and app.name in self._wanted_names
            and app.name not in refused
            and self._level(app.name) == level
        )

    def _told(self, level: int, refused: Collection[str]) -> tuple[PlannedApp, ...]:
        """The host and the catalogue after a level; before the first one, as they were told."""
        if level < 0:
            return tuple(app for app in self._announced.values() if app.lists_functions)
        held = [name for name in self._newly_own if self._level(name) > level]
        plan = self._plan_at(level, refused)
        return tuple(self._holding(app, held) for app in plan.list_receivers)

    def _plan_at(self, level: int, refused: Collection[str]) -> Plan:
        """The plan after a level: higher ones are as before, and nothing is removed yet."""
        later = (name for name, due in self._levels.items() if due > level)
        kept = frozenset((*refused, *later))
        return self._plan_with(kept, self._removed, self._prefixes.during(kept))

    def _plan_with(
        self, kept: Collection[str], removed: Collection[str], prefixes: Prefixes | None = None
    ) -> Plan:
        """The plan, in which functions are as before.

        Args:
            kept: functions of the file; one that is new is left out.
            removed: functions that the file does not have.
            prefixes: where they all are; None: as declared.
        """
        names = frozenset((*kept, *removed))
        applications = [
            self._with_former(app, names) if app.lists_functions else app
            for app in self.wanted.applications
            if app.name not in kept
        ]
        applications += [
            self.former[name]
            for name in self.before
            if name in names and not self.before[name].hosted and name in self.former
        ]
        deployed = [
            self.before[entry.name] if entry.name in kept else entry
            for entry in self.wanted.deployed
            if entry.name not in kept or entry.name in self.before
        ]
        deployed += [entry for name, entry in self.before.items() if name in removed]
        if prefixes is not None:
            applications = [prefixes.applied_to(app) for app in applications]
        return replace(self.wanted, applications=tuple(applications), deployed=tuple(deployed))

    def _new_host(self, plan: Plan) -> PlannedApp | None:
        """The host's application, where other code starts a new host next to the one that runs."""
        hosts = (
            app
            for app in plan.applications
            if app.role == "host" and app.name in self.alive and app.name in self.former
        )
        return next((app for app in hosts if app.version != self.former[app.name].version), None)

    @cached_property
    def _with_new_code(self) -> frozenset[str]:
        """Functions that the host serves until now, and that have other code in the file."""
        former = (
            function
            for app in self.former.values()
            if app.role == "host"
            for function in app.functions
        )
        return frozenset(
            function.name
            for function in former
            if _code(self._wanted.get(function.name, function.args)) != _code(function.args)
        )

    def _kept_for(self, refused: Collection[str]) -> list[str]:
        """Functions and split stages that the file does not have any more and that the former
        versions of what is refused call, by themselves or by others: these have their new version,
        where it is not refused as well.
        """
        new = {name: args for name, args in self._wanted.items() if name not in refused}
        called = called_by({**self._former, **new}, refused)
        stages = {entry.name for entry in self.before.values() if entry.part_of in refused}
        return [name for name in self._removed if name in called or name in stages]

    def _with_former(self, app: PlannedApp, names: Collection[str]) -> PlannedApp:
        """An application, in whose list of functions those named are as before: the former version,
        or none.
        """
        before = self.former[app.name].functions if app.name in self.former else ()
        former = {function.name: function for function in before if function.name in names}
        functions = [
            former.get(function.name, function)
            for function in app.functions
            if function.name not in names or function.name in former
        ]
        listed = {function.name for function in functions}
        functions += [function for name, function in former.items() if name not in listed]
        # only the process of the former host has their code
        if app.role == "host" and not former.keys().isdisjoint(self._with_new_code):
            host = self.former[app.name]
            app = replace(app, version=host.version, code={**app.code, **host.code})
        return replace(app, functions=tuple(functions))

    @cached_property
    def _newly_own(self) -> frozenset[str]:
        """Functions that have a deployment for good from now on, and had none."""
        return frozenset(
            entry.name
            for entry in self.wanted.deployed
            if entry.role == "function"
            and not entry.hosted
            and (entry.name not in self.before or self.before[entry.name].hosted)
        )

    def _changed(self, plan: Plan) -> tuple[PlannedApp, ...]:
        return changes(plan, self.before.values(), self.alive).applications

    @cached_property
    def _deleted(self) -> tuple[str, ...]:
        """Applications that the file has not, or has in the host."""
        return changes(self.wanted, self.before.values(), self.alive).deleted

    @cached_property
    def _removed(self) -> tuple[str, ...]:
        """Functions and other applications that the file does not have any more."""
        return tuple(name for name in self.before if name not in self._wanted_names)

    @property
    def _removed_apps(self) -> list[str]:
        return [name for name in self._removed if not self.before[name].hosted]

    @cached_property
    def _wanted_names(self) -> frozenset[str]:
        return frozenset(entry.name for entry in self.wanted.deployed)

    def _is_doubtful(self, name: str) -> bool:
        """Whether an application is not what it was deployed as, or may not be."""
        entry = self.before.get(name)
        return name not in self.alive or entry is None or not entry.fingerprint

    def _is_in_host(self, name: str) -> bool:
        """Whether the host serves a function until now, whatever the plan says."""
        return name in self.before and self.before[name].hosted and name not in self.alive

    @cached_property
    def _hosted_names(self) -> frozenset[str]:
        return frozenset(entry.name for entry in self.wanted.deployed if entry.hosted)

    def _has_former(self, name: str) -> bool:
        """Whether a former version goes on serving if the new one does not start."""
        if name not in self.before:
            return False
        return self.before[name].hosted or (name in self.alive and name in self.former)


def only(plan: Plan, names: Collection[str]) -> tuple[PlannedApp, ...]:
    """The applications of a plan that are named."""
    return tuple(app for app in plan.applications if app.name in names)


def _code(args: Mapping[str, Any]) -> str:
    return str(added_to(args).get("made_of", {}).get(CODE, ""))

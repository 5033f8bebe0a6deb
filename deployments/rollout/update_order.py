"""Decides an update: which version of each application runs afterwards, and in which steps it comes
to that. Decisions only; ``Rollout`` executes the steps.

Theory of operation: ``UpdateOrder.steps`` are executed in order, and each is decided when it is
due, from the functions that were refused until then: those whose new version did not start.

1. ``hold_placement``: the catalogue stops moving functions that get deployments of their own.
2. ``start_new``: deployments of functions start, next to what serves. A function that the host
   serves starts without a prefix, so that no call reaches it before it runs.
3. ``route_or_roll_back``: those get their prefix; what was refused gets its former version again.
4. ``tell_host_and_catalogue``: both get the list of functions that did start, and load the new
   versions.
5. ``roll_back_hosted``: what they could not load gets its former version again.
6. ``delete_old``: deployments of functions that the host serves now, and of split stages that no
   function calls any more, are deleted.

A split stage and its function are updated together or not at all: the former version of one may not
know the new version of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from deployments.observability.status_messages import waiting_reason
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.plan import (
    Plan,
    PlannedApp,
    changes,
    declared_functions,
    list_fingerprints,
    mark_changing,
)
from runtime.artifacts.version import CODE

Refused = Mapping[str, str]
"""Functions that keep their former version, by name, with the reason."""

_NONE_REFUSED: Refused = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """One step of an update. Its fields are in the order in which they take effect.

    Attributes:
        calls_end_first: calls in flight, of versions before this step, get time to end.
        load_first: functions that a new host loads before it takes the place of the former one.
        deploy: applications.
        delete: names of applications.
        await_prefixes: route prefixes that HAProxy has to know before the next step.
        await_versions: version hashes of functions that the catalogue has to decide on, by name.
        fallbacks: by the name of an application: the functions that keep their former version
            should it not start.
    """

    calls_end_first: bool = False
    load_first: tuple[str, ...] = ()
    deploy: tuple[PlannedApp, ...] = ()
    delete: tuple[str, ...] = ()
    await_prefixes: frozenset[str] = frozenset()
    await_versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def failures(self, states: Mapping[str, AppState]) -> dict[str, str]:
        """The functions that keep their former version after this step, with the reason.

        Args:
            states: of applications, by name.
        """
        return {
            function: waiting_reason(states[application].message)
            for application, functions in self.fallbacks.items()
            if states[application].state == "failed"
            for function in functions
        }


Decide = Callable[[Refused, Collection[str]], UpdateStep]
"""Decides a step from what is refused, and from what of it was refused since the step before."""


@dataclass(frozen=True, slots=True)
class UpdateOrder:
    """An update of what is deployed.

    Attributes:
        wanted: the plan of the file.
        before: what was deployed, by name.
        alive: names of applications that are neither failed nor missing.
        former: the last version of each application that ran, by name.
        awake: hosted functions that are loaded, or have an own deployment by a decision of the
            placement controller.
        promoted: those with an own deployment.
    """

    wanted: Plan
    before: Mapping[str, DeployedApp]
    alive: frozenset[str]
    former: Mapping[str, PlannedApp]
    awake: frozenset[str] = frozenset()
    promoted: frozenset[str] = frozenset()

    @property
    def steps(self) -> tuple[Decide, ...]:
        """What decides each step, in order."""
        return (
            self.hold_placement,
            self.start_new,
            self.route_or_roll_back,
            self.tell_host_and_catalogue,
            self.roll_back_hosted,
            self.delete_old,
        )

    def hold_placement(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """The catalogue leaves functions alone that get a deployment for good and had none: it may
        be moving one, or know it as deleted, and would delete what is deployed.
        """
        names = sorted(self._newly_own())
        catalogues = (app for app in self.former.values() if self._is_catalogue(app) and names)
        return UpdateStep(
            deploy=tuple(replace(app, args={**app.args, "held": names}) for app in catalogues)
        )

    def start_new(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Deployments of functions that changed. What the file does not have any more is deleted at
        once, since the others may wait for its resources; but for split stages, which are called
        until the end.
        """
        started = tuple(
            replace(app, is_routed=False) if self._is_in_host(app.name) else app
            for app in self._changed(self.wanted)
            if not app.lists_functions
        )
        return UpdateStep(
            deploy=started,
            delete=tuple(
                name
                for name in self._deleted()
                if name not in self._hosted_names() and not self.before[name].part_of
            ),
            fallbacks={app.name: (app.name,) for app in started if self._has_former(app.name)},
        )

    def route_or_roll_back(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Prefixes for functions that leave the host, and former versions of what was refused."""
        plan = self.plan_without(refused)
        leaving = self._leaving_host()
        routed = [app for app in plan.applications if app.name in leaving]
        return UpdateStep(
            deploy=(*_only(plan, refused), *routed),
            await_prefixes=frozenset(
                entry.route_prefix
                for entry in plan.deployed
                if entry.name in leaving and entry.name not in refused
            ),
        )

    def tell_host_and_catalogue(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """The list of functions, once no call goes to the host for a function that it will not
        know. A loaded function whose version changed is awaited; a new host, which starts for other
        code, loads it before it takes the place of the former host.
        """
        plan = self.plan_without(refused)
        changed = {app.name for app in self._changed(plan)}
        receivers = (
            app
            for app in plan.list_receivers
            if app.name in changed or (self._is_catalogue(app) and self._newly_own())
        )
        versions = self._changed_hosted(plan)
        new_host = self._new_host(plan)
        awaited = {name: version for name, version in versions.items() if name in self.awake}
        load_first: tuple[str, ...] = ()
        fallbacks: dict[str, tuple[str, ...]] = {}
        if new_host is not None:
            load_first = tuple(name for name in awaited if name not in self.promoted)
            hosted = (self._with_new_code() & self._hosted_names()) | versions.keys()
            fallbacks = {new_host.name: tuple(sorted(hosted - self.promoted))}
        return UpdateStep(
            calls_end_first=bool(self._leaving_host() - refused.keys()),
            load_first=load_first,
            deploy=self._with_retiring_stages(plan, receivers),
            await_versions={
                name: version for name, version in awaited.items() if name not in load_first
            },
            fallbacks=fallbacks,
        )

    def roll_back_hosted(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Former versions of what the host could not load, and of what goes with it."""
        if not newly_refused:
            return UpdateStep()
        plan = self.plan_without(refused)
        return UpdateStep(
            deploy=(
                *_only(plan, newly_refused),
                *self._with_retiring_stages(plan, plan.list_receivers),
            )
        )

    def delete_old(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Split stages that no function calls any more leave the list of functions. Their
        deployments are deleted, and those of functions that the host serves now, or as before.
        """
        plan = self.plan_without(refused)
        first = self.start_new()
        kept = {*first.delete, *self._stages_of(refused)}
        started = {app.name for app in first.deploy}
        receivers = plan.list_receivers if self._retiring_stages(plan) else ()
        return UpdateStep(
            # former versions may still call a split stage
            calls_end_first=bool(receivers),
            deploy=receivers,
            delete=(
                *(name for name in self._deleted() if name not in kept),
                *(name for name in refused if name in started and self._is_in_host(name)),
            ),
        )

    @property
    def deployed_meanwhile(self) -> tuple[DeployedApp, ...]:
        """What is written down while the update runs: should it be interrupted, the next `up`
        deploys again, or deletes, all that may have changed.
        """
        deleted = self._deleted()
        remaining = [entry for entry in self.wanted.deployed if entry.name not in deleted]
        return (
            *mark_changing(remaining, {app.name for app in self._changed(self.wanted)}),
            *mark_changing((self.before[name] for name in deleted), deleted),
        )

    def with_dependents(self, refused: Refused) -> dict[str, str]:
        """What is refused, and what cannot be updated without it, where that has a former version:
        the split stages of a function, the function of a split stage, and other new code in the
        host, which keeps its process for the code of what is refused.
        """
        refused = dict(refused)
        changed = {
            entry.name for entry in self.wanted.deployed if entry != self.before.get(entry.name)
        }
        stages = [(entry.name, entry.part_of) for entry in self.wanted.deployed if entry.part_of]
        for stage, function in stages:
            if stage in refused and function in changed and self._has_former(function):
                refused.setdefault(function, f"it goes with {stage}, which did not start.")
        for stage, function in stages:
            if function in refused and stage in changed and self._has_former(stage):
                refused.setdefault(stage, f"it goes with {function}, which did not start.")
        new_code = self._with_new_code()
        if self._new_host(self.wanted) and (
            keeping := next((name for name in refused if name in new_code), None)
        ):
            for name in new_code & self._hosted_names():
                refused.setdefault(name, f"it shares the host with {keeping}, which did not start.")
        return refused

    def plan_without(self, refused: Refused) -> Plan:
        """The plan, in which what is refused is as before, with the split stages that it had."""
        stages = self._stages_of(refused)
        applications = [self.former[name] for name in stages if name in self.former]
        for app in self.wanted.applications:
            if app.lists_functions:
                applications.append(self._with_former(app, (*refused, *stages)))
            elif app.name not in refused:
                applications.append(app)
            elif not self._is_in_host(app.name):
                applications.append(self.former[app.name])
        fingerprints = list_fingerprints(applications)
        deployed = (
            replace(
                self.before[entry.name],
                note=f"keeps the version before; the new one did not start: {refused[entry.name]}",
            )
            if entry.name in refused
            else replace(entry, fingerprint=fingerprints.get(entry.name, entry.fingerprint))
            for entry in self.wanted.deployed
        )
        return replace(
            self.wanted,
            applications=tuple(applications),
            deployed=(*deployed, *(self.before[name] for name in stages)),
        )

    def last_running(self, plan: Plan, states: Mapping[str, AppState]) -> tuple[PlannedApp, ...]:
        """The last version of each application of a plan that ran, or has not had to."""
        ran = {name for name, state in states.items() if state.state in ("ready", "asleep")}
        return tuple(
            app if app.name in ran else self.former.get(app.name, app) for app in plan.applications
        )

    def _new_host(self, plan: Plan) -> PlannedApp | None:
        """The host's application, where other code starts a new host next to the one that runs."""
        hosts = (
            app
            for app in plan.applications
            if app.role == "host" and app.name in self.alive and app.name in self.former
        )
        return next((app for app in hosts if app.version != self.former[app.name].version), None)

    def _with_new_code(self) -> frozenset[str]:
        """Functions that the host serves until now, and that have other code in the file."""
        wanted = declared_functions(self.wanted.applications)
        former = (
            function
            for app in self.former.values()
            if app.role == "host"
            for function in app.functions
        )
        return frozenset(
            function.name
            for function in former
            if _code(wanted.get(function.name, function.args)) != _code(function.args)
        )

    def _changed_hosted(self, plan: Plan) -> dict[str, str]:
        """The version hashes of functions that changed and are hosted before and after, by name."""
        listed = {
            function.name: function for app in plan.list_receivers for function in app.functions
        }
        return {
            entry.name: listed[entry.name].version
            for entry in plan.deployed
            if entry.hosted
            and entry.name in self.before
            and self.before[entry.name].hosted
            and entry != self.before[entry.name]
        }

    def _with_retiring_stages(
        self, plan: Plan, receivers: Iterable[PlannedApp]
    ) -> tuple[PlannedApp, ...]:
        """Adds to the function lists the split stages that are about to be deleted: former versions
        call them until they are replaced.
        """
        retiring = self._retiring_stages(plan)
        return tuple(self._with_former(app, retiring) if retiring else app for app in receivers)

    def _retiring_stages(self, plan: Plan) -> list[str]:
        names = {entry.name for entry in plan.deployed}
        return [
            entry.name
            for entry in self.before.values()
            if entry.part_of and entry.name not in names
        ]

    def _stages_of(self, refused: Collection[str]) -> list[str]:
        """Split stages that the file does not have any more and former versions still call."""
        names = {entry.name for entry in self.wanted.deployed}
        return [
            entry.name
            for entry in self.before.values()
            if entry.part_of in refused and entry.name not in names
        ]

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
        if app.role == "host" and not former.keys().isdisjoint(self._with_new_code()):
            host = self.former[app.name]
            app = replace(app, version=host.version, code={**app.code, **host.code})
        return replace(app, functions=tuple(functions))

    def _leaving_host(self) -> frozenset[str]:
        return frozenset(app.name for app in self.start_new().deploy if not app.is_routed)

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

    def _deleted(self) -> tuple[str, ...]:
        return changes(self.wanted, self.before.values(), self.alive).deleted

    def _is_in_host(self, name: str) -> bool:
        """Whether the host serves a function until now, whatever the plan says."""
        return name in self.before and self.before[name].hosted and name not in self.alive

    def _hosted_names(self) -> frozenset[str]:
        return frozenset(entry.name for entry in self.wanted.deployed if entry.hosted)

    def _is_catalogue(self, app: PlannedApp) -> bool:
        return app.role == "catalogue" and app.name in self.alive

    def _has_former(self, name: str) -> bool:
        """Whether a former version goes on serving if the new one does not start."""
        return self._is_in_host(name) or (
            name in self.before and name in self.alive and name in self.former
        )


def _only(plan: Plan, names: Collection[str]) -> tuple[PlannedApp, ...]:
    return tuple(app for app in plan.applications if app.name in names)


def _code(args: Mapping[str, Any]) -> str:
    return str(args.get("made_of", {}).get(CODE, ""))

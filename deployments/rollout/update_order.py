"""Decides an update: which version of each application runs afterwards, and in which steps it comes
to that. Decisions only; ``Rollout`` executes the steps.

Theory of operation: callees first, callers then, removals last. ``UpdateOrder.steps`` are executed
in order, and each is decided when it is due, from the functions that were refused until then: those
whose new version did not start. What changes is put in levels (``call_order``): a function is above
what its new version needs, and as before until its level is due.

1. ``announce``: the catalogue stops moving functions that get deployments of their own; callers of
   functions that get another prefix learn where these will be.
2. For each level:
   ``start_new``: deployments of functions start, next to what serves. A function that the host
   serves starts without a prefix, so that no call reaches it before it runs.
   ``route_or_roll_back``: those get their prefix; what was refused gets its former version again.
   ``tell_host_and_catalogue``: both get the list of functions that did start, and load the new
   versions.
   ``roll_back_hosted``: what they could not load gets its former version again.
3. ``delete_old``: what no version calls any more goes: functions and split stages that the file
   does not have, and deployments of functions that the host serves now.
4. ``step_aside``, ``move``, ``forget_prefixes``: functions get their new prefixes (``prefixes``),
   and callers forget the former ones.

What goes together, and what is where meanwhile, is in ``update_plans``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from deployments.observability.status_messages import waiting_reason
from deployments.ray_support.serve_status import AppState
from deployments.rollout.call_order import (
    called_by,
    callers_of,
)
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import mark_changing
from deployments.rollout.prefixes import Prefixes
from deployments.rollout.update_plans import Refused, UpdatePlans, only

_NONE_REFUSED: Refused = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """One step of an update. Its fields are in the order in which they take effect.

    Attributes:
        calls_end_first: calls in flight, of versions before this step, get time to end.
        load_first: functions that a new host loads before it takes the place of the former one.
        deploy: applications.
        delete: names of applications.
        delete_if_short: names of applications that are deleted before their time if what is
            deployed waits for resources: one group after the other, as long as it does.
        await_prefixes: route prefixes that HAProxy has to know before the next step.
        await_versions: version hashes of functions that the catalogue has to decide on, by name.
        fallbacks: by the name of an application: the functions that keep their former version
            should it not start.
        callers: by the name of a new function: the functions that call it, and that keep their
            former version should it not start.
    """

    calls_end_first: bool = False
    load_first: tuple[str, ...] = ()
    deploy: tuple[PlannedApp, ...] = ()
    delete: tuple[str, ...] = ()
    delete_if_short: tuple[tuple[str, ...], ...] = ()
    await_prefixes: frozenset[str] = frozenset()
    await_versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    callers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def failures(self, states: Mapping[str, AppState]) -> dict[str, str]:
        """The functions that keep their former version after this step, with the reason.

        Args:
            states: of applications, by name.
        """
        failed = {name: state for name, state in states.items() if state.state == "failed"}
        found = {
            caller: f"it calls {name}, which did not start."
            for name, callers in self.callers.items()
            if name in failed
            for caller in callers
        }
        return found | {
            function: waiting_reason(failed[application].message)
            for application, functions in self.fallbacks.items()
            if application in failed
            for function in functions
        }


Decide = Callable[[Refused, Collection[str]], UpdateStep]
"""Decides a step from what is refused, and from what of it was refused since the step before."""


@dataclass(frozen=True)
class UpdateOrder(UpdatePlans):
    """The steps of an update."""

    @property
    def steps(self) -> tuple[Decide, ...]:
        """What decides each step, in order."""
        return (*self.first_steps, *self.last_steps)

    @property
    def first_steps(self) -> tuple[Decide, ...]:
        """After these every new version serves that is going to, and every former one still may."""
        levels = range(max(self._levels.values(), default=0) + 1)
        return (
            *(() if self.is_way_back else (self.announce,)),
            *(partial(decide, level=level) for level in levels for decide in self._of_a_level),
        )

    @property
    def last_steps(self) -> tuple[Decide, ...]:
        """These take away what only former versions needed."""
        levels = range(max(self._removal_levels.values(), default=0) + 1)
        return (
            self.delete_replaced,
            *(partial(self.delete_old, level=level) for level in levels),
            self.step_aside,
            self.move,
            self.forget_prefixes,
        )

    @property
    def _of_a_level(self) -> tuple[Callable[..., UpdateStep], ...]:
        return (
            self.start_new,
            self.route_or_roll_back,
            self.tell_host_and_catalogue,
            self.roll_back_hosted,
        )

    def announce(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """The catalogue leaves functions alone that get a deployment for good and had none: it may
        be moving one, or know it as deleted, and would delete what is deployed. Versions that run
        learn all prefixes of functions that move.
        """
        told = self._announced
        return UpdateStep(
            deploy=tuple(app for name, app in told.items() if app != self.former[name]),
            await_versions=self._promoted_in(told.values(), self.former.values()),
        )

    def start_new(
        self,
        refused: Refused = _NONE_REFUSED,
        newly_refused: Collection[str] = (),
        *,
        level: int = 0,
    ) -> UpdateStep:
        """Deployments of functions that changed. What the file does not have any more goes last,
        unless its resources are needed: first what nothing calls, then what former versions call.
        """
        started = self._started(level, refused)
        called = called_by(self._former, self.before) | {
            name for name, entry in self.before.items() if entry.part_of
        }
        groups = [
            tuple(name for name in self._removed_apps if (name in called) is is_called)
            for is_called in (False, True)
        ]
        return UpdateStep(
            deploy=started,
            delete_if_short=tuple(group for group in groups if group and started),
            fallbacks={app.name: (app.name,) for app in started if self._has_former(app.name)},
            callers={
                app.name: callers
                for app in started
                if not self._has_former(app.name) and (callers := self._updated_callers(app.name))
            },
        )

    def route_or_roll_back(
        self,
        refused: Refused = _NONE_REFUSED,
        newly_refused: Collection[str] = (),
        *,
        level: int = 0,
    ) -> UpdateStep:
        """Prefixes for functions that leave the host, and former versions of what was refused."""
        plan = self._plan_at(level, refused)
        tried = [name for name in refused if self._level(name) <= level]
        routed = only(plan, self._leaving_host(level) - refused.keys())
        # lists that have the new version of what is refused only now
        told = any(self._level(name) < level for name in newly_refused)
        return UpdateStep(
            deploy=(
                *only(plan, tried),
                *routed,
                *(self._told(level - 1, refused) if told else ()),
            ),
            await_versions=self._promoted_among(newly_refused) if told else {},
            await_prefixes=frozenset(str(app.route_prefix) for app in routed),
        )

    def tell_host_and_catalogue(
        self,
        refused: Refused = _NONE_REFUSED,
        newly_refused: Collection[str] = (),
        *,
        level: int = 0,
    ) -> UpdateStep:
        """The list of functions, once no call goes to the host for a function that it will not
        know. A loaded function whose version changed is awaited; a new host, which starts for other
        code, loads it before it takes the place of the former host.
        """
        plan = self._plan_at(level, refused)
        told = {app.name: app for app in self._told(level - 1, refused)}
        receivers = tuple(
            app
            for app in self._told(level, refused)
            if app != told.get(app.name) or (not level and self._is_doubtful(app.name))
        )
        versions = self._changed_hosted(plan, level)
        awaited = {name: version for name, version in versions.items() if name in self.awake}
        load_first: tuple[str, ...] = ()
        fallbacks: dict[str, tuple[str, ...]] = {}
        new_host = self._new_host(plan)
        if new_host is not None and new_host.version != told[new_host.name].version:
            load_first = tuple(name for name in awaited if name not in self.promoted)
            hosted = (self._with_new_code & self._hosted_names) | versions.keys()
            fallbacks = {new_host.name: tuple(sorted(hosted - self.promoted))}
        return UpdateStep(
            calls_end_first=bool(self._leaving_host(level) - refused.keys()),
            load_first=load_first,
            deploy=receivers,
            await_versions={
                name: version for name, version in awaited.items() if name not in load_first
            },
            fallbacks=fallbacks,
        )

    def roll_back_hosted(
        self,
        refused: Refused = _NONE_REFUSED,
        newly_refused: Collection[str] = (),
        *,
        level: int = 0,
    ) -> UpdateStep:
        """Former versions of what the host could not load, and of what goes with it."""
        if not newly_refused:
            return UpdateStep()
        tried = [name for name in newly_refused if self._level(name) <= level]
        plan = self._plan_at(level, refused)
        return UpdateStep(
            deploy=(*only(plan, tried), *self._told(level, refused)),
            await_versions=self._promoted_among(newly_refused),
        )

    def delete_replaced(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Deployments of functions that the host serves now, or as before: then also that of a
        promoted one, which is promoted again.
        """
        tried = {app.name for level in self._all_levels for app in self._started(level)}
        return UpdateStep(
            delete=(
                *(name for name in self._deleted if name not in (*self._removed, *refused)),
                *(name for name in refused if name in tried and self.before[name].hosted),
            )
        )

    def delete_old(
        self,
        refused: Refused = _NONE_REFUSED,
        newly_refused: Collection[str] = (),
        *,
        level: int = 0,
    ) -> UpdateStep:
        """What no version calls any more leaves the list of functions, and its deployments are
        deleted. What one of them calls goes a level later.
        """
        kept = self._kept_for(refused)
        gone = [name for name in self._removed if name not in kept]
        later = [name for name in gone if self._removal_levels[name] > level]
        plan = self._plan_with(refused, [*kept, *later], self._prefixes.during(refused))
        due = [name for name in gone if self._removal_levels[name] == level]
        return UpdateStep(
            # former versions may still call it
            calls_end_first=bool(due),
            deploy=plan.list_receivers if due else (),
            delete=tuple(name for name in due if name in self._deleted),
        )

    def step_aside(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """What is at a prefix that another function is to have waits at one of its own."""
        kept = self._kept_for(refused)
        during, aside = (
            self._prefixes.during(refused),
            self._prefixes.stepping_aside(refused, kept),
        )
        return self._relocate(refused, during, aside)

    def move(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Functions get the prefixes that they keep."""
        kept = self._kept_for(refused)
        aside, moved = (
            self._prefixes.stepping_aside(refused, kept),
            self._prefixes.moved(refused, kept),
        )
        return self._relocate(refused, aside, moved)

    def forget_prefixes(
        self, refused: Refused = _NONE_REFUSED, newly_refused: Collection[str] = ()
    ) -> UpdateStep:
        """Callers look there alone from now on."""
        kept = self._kept_for(refused)
        moved, last = self._prefixes.moved(refused, kept), self._prefixes.last(refused, kept)
        return self._relocate(refused, moved, last)

    def way_back(self, done: int, alive: Collection[str]) -> UpdateOrder:
        """The update to what was before, from any of the first steps. What has its former version
        still is deployed again as it is, which changes nothing.

        Args:
            done: the number of the step that may have been executed in part.
            alive: names of applications that are neither failed nor missing now.
        """
        reached = (done - 1) // len(self._of_a_level)
        now, during = self._plan_at(reached, ()), self._prefixes.during()
        told = {name for name, app in self._announced.items() if app != self.former[name]}
        doubtful = told | {app.name for app in now.list_receivers} | self._prefixes.to_host
        entries = {
            entry.name: replace(entry, route_prefix=during.at.get(entry.name, entry.route_prefix))
            for entry in now.deployed
        }
        # their deployments are as before until the end
        entries |= {name: self.before[name] for name in self._prefixes.to_host}
        former = [app for name, app in self.former.items() if name in self.before]
        return UpdateOrder(
            replace(self.wanted, applications=tuple(former), deployed=tuple(self.before.values())),
            {entry.name: entry for entry in mark_changing(entries.values(), doubtful)},
            frozenset(alive),
            {app.name: app for app in (*former, *now.applications)},
            self.awake,
            self.promoted,
            is_way_back=True,
        )

    def _relocate(self, refused: Refused, old: Prefixes, new: Prefixes) -> UpdateStep:
        """What is, or calls a function, at other prefixes than before."""
        kept = self._kept_for(refused)
        before = {app.name: app for app in self._plan_with(refused, kept, old).applications}
        after = self._plan_with(refused, kept, new).applications
        changed = tuple(app for app in after if app != before[app.name])
        return UpdateStep(
            deploy=changed,
            await_prefixes=frozenset(
                str(app.route_prefix)
                for app in changed
                if app.route_prefix != before[app.name].route_prefix
            ),
            await_versions=self._promoted_in(changed, before.values()),
        )

    def _promoted_in(
        self, told: Collection[PlannedApp], before: Collection[PlannedApp]
    ) -> dict[str, str]:
        """The versions of promoted functions that are declared otherwise than before, by name: the
        catalogue has their deployments changed.
        """
        known = {function.name: function for app in before for function in app.functions}
        return {
            function.name: function.version
            for app in told
            for function in app.functions
            if function.name in self.promoted and function.hash != known[function.name].hash
        }

    def _promoted_among(self, refused: Collection[str]) -> dict[str, str]:
        """The former versions of promoted functions that the catalogue was told otherwise."""
        functions = (function for app in self.former.values() for function in app.functions)
        return {
            function.name: function.version
            for function in functions
            if function.name in self.promoted and function.name in refused
        }

    def _changed_hosted(self, plan: Plan, level: int) -> dict[str, str]:
        """The version hashes of functions of a level that changed and are hosted before and after,
        by name.
        """
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
            and self._level(entry.name) == level
        }

    def _updated_callers(self, name: str) -> tuple[str, ...]:
        """The functions that only their new version has call a new function, also by way of others
        that are new.
        """
        found: set[str] = set()
        waiting = {name}
        while waiting:
            callers = (callers_of(self._wanted, waiting) & self._touched) - found
            found |= callers
            waiting = {caller for caller in callers if not self._has_former(caller)}
        return tuple(sorted(caller for caller in found if self._has_former(caller)))

    def _leaving_host(self, level: int) -> frozenset[str]:
        return frozenset(app.name for app in self._started(level) if not app.is_routed)

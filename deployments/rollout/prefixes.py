"""Where each function is called while an update moves some to other prefixes. Decisions only.

Theory of operation. A function keeps its former prefix until all new versions serve, and moves
last; its callers are told both before, and find it wherever it is
(``deployments.serving.remote_caller``). A prefix that another function of what runs still has is
not free until the end: its next function waits at a prefix of its own, which no client knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from deployments.control.declarations import FunctionDeclaration
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.plan import PlannedApp
from runtime.declaration.function_spec import DEPLOYED, added_to

WAITING: Final = "~moving"
"""Ends a prefix that a function has only during an update; no function's name has a ``~``."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prefixes of functions, by name, at one moment.

    Attributes:
        at: where each is.
        known: of those that may be elsewhere, all prefixes at which callers look, in order.
    """

    at: Mapping[str, str]
    known: Mapping[str, tuple[str, ...]]

    def applied_to(self, app: PlannedApp) -> PlannedApp:
        """An application that is, and calls, at these prefixes."""
        if app.lists_functions:
            return replace(app, functions=tuple(map(self._declared, app.functions)))
        if app.role != "function":
            return app
        prefix = self.at.get(app.name, app.route_prefix)
        return replace(app, route_prefix=prefix, args=self._calls(app.args))

    def _declared(self, function: FunctionDeclaration) -> FunctionDeclaration:
        at = self.at.get(function.name, function.url)
        others = tuple(one for one in self.known.get(function.name, ()) if one != at)
        args = self._calls(function.args)
        if (function.url, function.also_at, function.args) == (at, others, args):
            return function
        return replace(function, url=at, also_at=others, args=args)

    def _calls(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        added = added_to(args)
        calls = added.get("calls", {})
        found = {name: self._callee(name, callee) for name, callee in calls.items()}
        return args if found == calls else {**args, DEPLOYED: {**added, "calls": found}}

    def _callee(self, name: str, callee: Mapping[str, Any]) -> Mapping[str, Any]:
        if name not in self.at:
            return callee
        first, *others = self.known.get(name, (self.at[name],))
        return {**callee, "route_prefix": first, "also_at": others}


@dataclass(frozen=True, slots=True)
class PrefixChanges:
    """The prefixes of an update; of all applications, since those of functions must be free.

    Attributes:
        before: those of what runs, by name.
        wanted: those of the file.
        to_host: functions that have a deployment of their own, and get into the host: only a prefix
            below the host's reaches them there.
        below: where prefixes of an update are: below the host's, if there is one.
    """

    before: Mapping[str, str]
    wanted: Mapping[str, str]
    to_host: frozenset[str] = frozenset()
    below: str = ""

    @classmethod
    def of(cls, before: Iterable[DeployedApp], wanted: Iterable[DeployedApp]) -> PrefixChanges:
        """From what is written down of both."""
        old = {entry.name: entry for entry in before}
        new = {entry.name: entry for entry in wanted}
        hosts = [entry.route_prefix for entry in new.values() if entry.role == "host"]
        return cls(
            {name: entry.route_prefix for name, entry in old.items()},
            {name: entry.route_prefix for name, entry in new.items()},
            frozenset(
                name
                for name, entry in new.items()
                if entry.hosted and name in old and not old[name].hosted
            ),
            hosts[0].rstrip("/") if hosts else "",
        )

    def during(self, kept: Collection[str] = ()) -> Prefixes:
        """While versions are replaced.

        Args:
            kept: functions that are as before, so far or for good.
        """
        wanted = (name for name in self.wanted if name not in kept or name in self.before)
        at = {**self.before, **{name: self._first(name, kept) for name in wanted}}
        known = {name: self._known(name) for name in at}
        return Prefixes(at, {name: found for name, found in known.items() if len(found) > 1})

    def stepping_aside(self, refused: Collection[str] = (), kept: Collection[str] = ()) -> Prefixes:
        """Once the functions that the file does not have are gone: what is at a prefix that another
        one is to have steps aside. Callers still look everywhere.
        """
        during, last = self.during(refused), self.last(refused, kept)
        at = {name: during.at[name] for name in last.at}
        taken = {prefix: name for name, prefix in last.at.items()}
        aside = {
            name: self._waiting(name)
            for name, prefix in at.items()
            if taken.get(prefix, name) != name
        }
        return Prefixes({**at, **aside}, during.known)

    def moved(self, refused: Collection[str] = (), kept: Collection[str] = ()) -> Prefixes:
        """Each where it stays, and callers look everywhere."""
        return Prefixes(self.last(refused, kept).at, self.during(refused).known)

    def last(self, refused: Collection[str] = (), kept: Collection[str] = ()) -> Prefixes:
        """Each where it stays. What keeps its former version keeps its prefix, too, unless the file
        gives that to another one that was taken.

        Args:
            refused: functions that keep their former version.
            kept: functions that the file does not have, and which these call.
        """
        at = {name: prefix for name, prefix in self.wanted.items() if name not in refused}
        taken = set(at.values())
        for name in (*refused, *kept):
            prefix = self.before.get(name, "")
            at[name] = self._waiting(name) if prefix in taken else prefix
        return Prefixes(at, {})

    def _first(self, name: str, kept: Collection[str] = ()) -> str:
        if name in self.before and (name in kept or name not in self.to_host):
            return self.before[name]
        others = {prefix for other, prefix in self.before.items() if other != name}
        wanted = self.wanted[name]
        return self._waiting(name) if wanted in others else wanted

    def _known(self, name: str) -> tuple[str, ...]:
        """All at which it may be found at any moment of the update, whatever is refused."""
        found = [self.before.get(name), self.wanted.get(name)]
        if name in self.wanted:
            found.insert(1, self._first(name))
        everywhere = (*self.before.items(), *self.wanted.items())
        if any(other != name and prefix in found for other, prefix in everywhere):
            found.append(self._waiting(name))
        return tuple(dict.fromkeys(prefix for prefix in found if prefix))

    def _waiting(self, name: str) -> str:
        return f"{self.below}/{name}{WAITING}"

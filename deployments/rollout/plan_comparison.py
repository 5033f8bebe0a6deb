"""A plan beside what runs: which applications differ, what is new of each function, what stands in
the way, and what is written down meanwhile. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.plan import Plan, PlannedApp
from runtime.artifacts.version import NOUNS
from runtime.declaration.function_spec import (
    DEPLOYED,
    added_to,
    hash_of,
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between a plan and a cluster: applications to deploy, and names to delete."""

    applications: tuple[PlannedApp, ...]
    deleted: tuple[str, ...]


def keep_host_version(
    wanted: Plan, before: Mapping[str, PlannedApp], *, has_undeployed_code: bool = False
) -> Plan:
    """The plan, whose host keeps its version, and so its process, unless a module that the process
    may have imported has changed.

    A process imports a module once. So other code of one hosted function needs a new host, which
    Ray starts next to the old one; other arguments, models and functions do not.

    Args:
        before: the applications that run, as they were deployed, by name.
        has_undeployed_code: the host that runs has imported code that was never deployed.
    """
    applications = tuple(
        _with_host_version(app, former, has_undeployed_code)
        if app.role == "host" and (former := before.get(app.name)) and former.role == "host"
        else app
        for app in wanted.applications
    )
    fingerprints = {app.name: app.fingerprint for app in applications if app.role == "host"}
    return replace(
        wanted,
        applications=applications,
        deployed=_with_fingerprints(wanted.deployed, fingerprints),
    )


def _with_host_version(
    host: PlannedApp, before: PlannedApp, has_undeployed_code: bool
) -> PlannedApp:
    code, imported = host.code, before.code
    if has_undeployed_code or any(
        imported.get(name, digest) != digest for name, digest in code.items()
    ):
        return replace(host, version=hash_of([before.version, code]))
    return replace(host, version=before.version, code={**imported, **code})


def changes(wanted: Plan, deployed: Iterable[DeployedApp], alive: Iterable[str]) -> Changes:
    """What to do to a cluster on which ``deployed`` runs and the applications named in ``alive``
    are neither failed nor missing.

    A function in the host has no application to deploy or delete: the host and the catalogue get
    it in their list.
    """
    before = {entry.name: entry for entry in deployed}
    healthy = frozenset(alive)
    after = {entry.name: entry for entry in wanted.deployed}
    return Changes(
        applications=tuple(
            app
            for app in wanted.applications
            if app.name not in healthy or before.get(app.name) != after[app.name]
        ),
        deleted=tuple(
            name
            for name, entry in before.items()
            if not entry.hosted and (name not in after or after[name].hosted)
        ),
    )


def name_conflicts(wanted: Plan, existing: Mapping[str, str], ours: Collection[str]) -> list[str]:
    """A sentence for each application of a plan that has the name or the prefix of an application
    which was not deployed from here.

    Args:
        existing: prefix by name of each application that the cluster has; the prefix is empty where
            there is none or it is not known.
        ours: names of what we deployed there.
    """
    others = {name: prefix for name, prefix in existing.items() if name not in ours}
    names_at = {prefix: name for name, prefix in others.items() if prefix}
    fix = (
        "Name it otherwise in the file. If it is yours, take it down where it was deployed, or "
        "with `ray.serve.delete`."
    )
    return [
        f"{entry.name!r} stands already, and was not deployed from here. {fix}"
        if entry.name in others
        else f"{names_at[entry.route_prefix]!r} is at {entry.route_prefix}, where {entry.name!r} "
        "is to be. Give that another `route_prefix`."
        for entry in wanted.deployed
        if entry.name in others or entry.route_prefix in names_at
    ]


def list_fingerprints(applications: Iterable[PlannedApp]) -> dict[str, str]:
    """The fingerprints of the applications that get the list of functions, by name."""
    return {app.name: app.fingerprint for app in applications if app.lists_functions}


def without_functions(app: PlannedApp, names: Collection[str]) -> PlannedApp:
    """An application, without those functions in its list, if it has one."""
    return replace(app, functions=tuple(one for one in app.functions if one.name not in names))


def deployed_without(
    deployed: Iterable[DeployedApp], applications: Iterable[PlannedApp], names: Collection[str]
) -> tuple[DeployedApp, ...]:
    """What is written down once ``names`` are taken down and the host and the catalogue, in
    ``applications``, list the others only. The next `up` of the same file declares them again.
    """
    remaining = (entry for entry in deployed if entry.name not in names)
    return _with_fingerprints(remaining, list_fingerprints(applications))


def mark_changing(
    deployed: Iterable[DeployedApp], changing: Collection[str]
) -> tuple[DeployedApp, ...]:
    """What is written down while some of it changes: should that be interrupted, the next `up`
    deploys all of ``changing`` again.
    """
    return _with_fingerprints(deployed, dict.fromkeys(changing, ""))


def _with_fingerprints(
    deployed: Iterable[DeployedApp], fingerprints: Mapping[str, str]
) -> tuple[DeployedApp, ...]:
    return tuple(
        replace(entry, fingerprint=fingerprints.get(entry.name, entry.fingerprint))
        for entry in deployed
    )


def describe_changes(before: Iterable[PlannedApp], after: Iterable[PlannedApp]) -> dict[str, str]:
    """What is new of each function that was deployed and is declared otherwise now, by name:
    ``new code and models``.

    Args:
        before: applications as they were deployed.
        after: as they are to be.
    """
    args_before, found = declared_functions(before), {}
    for name, args in declared_functions(after).items():
        if name in args_before and args != args_before[name]:
            nouns = dict.fromkeys(_changed_nouns(args_before[name], args))
            found[name] = f"new {' and '.join(nouns)}"
    return found


def declared_functions(applications: Iterable[PlannedApp]) -> dict[str, Mapping[str, Any]]:
    """The ``args`` of every function, from its own application or from the list of the host or the
    catalogue.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for app in applications:
        if app.role == "function":
            found[app.name] = app.args
        found |= {function.name: function.args for function in app.functions}
    return found


def _changed_nouns(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    was, is_now = added_to(before), added_to(after)
    was_made_of, is_made_of = was.get("made_of", {}), is_now.get("made_of", {})
    yield from (
        noun for kind, noun in NOUNS.items() if was_made_of.get(kind) != is_made_of.get(kind)
    )
    if {**before, DEPLOYED: {**was, "made_of": 0}} != {**after, DEPLOYED: {**is_now, "made_of": 0}}:
        yield "declaration"

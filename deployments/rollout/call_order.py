"""Which function calls which in a file and in what runs, and in which order an update starts what
changes: a function starts when those are there that its new version calls. Decisions only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from runtime.declaration.function_spec import added_to

Declared = Mapping[str, Mapping[str, Any]]
"""The ``args`` of functions, by name."""

Levels = dict[str, int]
"""By function: what it needs has a lower number; 0 needs nothing that changes."""


def calls_of(declared: Declared, name: str) -> Mapping[str, Any]:
    """What a function knows of those that it calls (``CalleeSpec`` as plain data), by name; nothing
    of one that is not declared.
    """
    calls: Mapping[str, Any] = added_to(declared.get(name, {})).get("calls", {})
    return calls


def called_by(declared: Declared, names: Iterable[str]) -> frozenset[str]:
    """The functions that those named call, and those that these call in turn."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for callee in calls_of(declared, waiting.pop()):
            if callee not in found:
                found.add(callee)
                waiting.append(callee)
    return frozenset(found)


def callers_of(declared: Declared, names: Collection[str]) -> frozenset[str]:
    """The functions that call one of those named themselves."""
    return frozenset(
        name for name in declared if not set(names).isdisjoint(calls_of(declared, name))
    )


def has_other_face(name: str, callee: str, wanted: Declared, former: Declared) -> bool:
    """Whether the two versions of a function know different fields or answers of one that both
    call: then the new version may not be able to call the former callee, nor the former one the
    new.
    """
    new, old = calls_of(wanted, name).get(callee), calls_of(former, name).get(callee)
    return new is not None and old is not None and _face(new) != _face(old)


def needs_of(wanted: Declared, former: Declared, changed: Collection[str]) -> dict[str, list[str]]:
    """By new and changed function: those of the others that its new version needs as they are to
    be. It needs what it calls, unless its former version called that as well, by the same fields
    and answers: then either version of it will do. It does not where a stage calls it to construct
    itself (``at_load``).
    """
    return {
        name: [
            callee
            for callee, known in calls_of(wanted, name).items()
            if callee in changed
            and (
                known.get("at_load")
                or callee not in former
                or callee not in calls_of(former, name)
                or has_other_face(name, callee, wanted, former)
            )
        ]
        for name in changed
    }


def start_levels(
    needs: Mapping[str, Collection[str]],
    former: Declared,
    together: Iterable[Collection[str]],
    new_in_host: Collection[str] = (),
) -> Levels:
    """The order in which functions start: a function after those that it needs.

    Args:
        needs: ``needs_of`` all that change.
        together: functions that can only start at once: a split stage that changed, with its
            function; all with other code in the host, which needs a new process for it. The last
            group is the host's.
        new_in_host: functions of the host that nothing runs yet; they start with the host's group,
            since their code may be new as well, unless one of the group needs them first.
    """
    *parts, hosted = together
    new = {name: [one for one in of if one not in former] for name, of in needs.items()}
    group = {*hosted, *new_in_host} if hosted else ()
    for of in (needs, new):
        levels = _relax(of, [*parts, group])
        if levels is not None:
            return levels
    # a need of what is new alone never leads back to a group, whose members all exist
    levels = _relax(new, [*parts, hosted])
    assert levels is not None
    return levels


def removal_levels(former: Declared, removed: Collection[str]) -> Levels:
    """The order in which functions go: none before those that call it."""
    callers = {name: callers_of(former, {name}) & set(removed) for name in removed}
    # versions of several files together may call each other in a circle
    return _relax(callers, []) or dict.fromkeys(removed, 0)


def _relax(needs: Mapping[str, Collection[str]], groups: list[Collection[str]]) -> Levels | None:
    """The least levels; None where they go in a circle."""
    levels = dict.fromkeys(needs, 0)
    for _ in range(len(needs) + 1):
        before = dict(levels)
        for name, of in needs.items():
            levels[name] = max([levels[name], *(levels[callee] + 1 for callee in of)])
        for group in groups:
            members = [name for name in group if name in levels]
            highest = max((levels[name] for name in members), default=0)
            levels |= dict.fromkeys(members, highest)
        if levels == before:
            return levels
    return None


def _face(callee: Mapping[str, Any]) -> list[Any]:
    return [callee.get("takes"), callee.get("gives")]

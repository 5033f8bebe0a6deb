"""Secrets on a cluster: by mark in the memory of Ray's head, fetched by whoever constructs the stage.

They are in no environment, no argument and no configuration, all of which Ray shows; whoever has the cluster's token can ask for them,
as he can run code in any replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import ray

from deployments.rayprivate import HeadStore
from runtime.secrets import Secrets, owner_of

NAMESPACE: Final = "wakeful"

KEY: Final = "wakeful-secret-"

ANSWER_S: Final = 10.0
"""Longest wait for the actor that keeps them where Ray's head does not."""


class Keeper:
    """Holds values in a process of its own: the public way, for a Ray whose ``HeadStore`` we do not know."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def fetch(self, marks: list[str]) -> dict[str, str]:
        """Those that there are."""
        return {mark: self._values[mark] for mark in marks if mark in self._values}


def keep(values: Mapping[str, str], still: Collection[str], owner: str) -> None:
    """The cluster has these values afterwards, and of those that it had, those in ``still``; nothing else of the same owner. Blocking.

    Args:
        values: by mark.
        owner: what all marks of one state folder begin with (``runtime.secrets.key_mark``).
    """
    if HeadStore.is_there():
        for mark, value in values.items():
            HeadStore.put(KEY + mark, value)
        for mark in {key.removeprefix(KEY) for key in HeadStore.keys(KEY + owner)} - values.keys() - set(still):
            HeadStore.drop(KEY + mark)
        return
    keeper = _keeper(owner)
    known = {**_ask(keeper, still), **values}
    if keeper is not None:
        ray.kill(keeper)
    if known:
        actor: Any = ray.remote(Keeper)  # its arguments are what it has after a restart: another set is another actor
        actor.options(name=KEY + owner, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=-1).remote(known)


def fetch(marks: Collection[str]) -> dict[str, str]:
    """The values of marks, of those that the cluster has; blocking."""
    if HeadStore.is_there():
        found = {mark: HeadStore.get(KEY + mark) for mark in marks}
        return {mark: value for mark, value in found.items() if value is not None}
    owners = {owner_of(mark) for mark in marks}
    return {mark: value for owner in owners for mark, value in _ask(_keeper(owner), marks).items()}


async def learn(secrets: Secrets, marks: Iterable[str]) -> None:
    """The secrets of this process know the values of these marks afterwards, as far as the cluster has them."""
    if wanted := set(marks):
        secrets.learn(await asyncio.to_thread(fetch, wanted))


def _keeper(owner: str) -> Any | None:
    try:
        return ray.get_actor(KEY + owner, namespace=NAMESPACE)
    except ValueError:
        return None


def _ask(keeper: Any | None, marks: Collection[str]) -> dict[str, str]:
    if keeper is None or not marks:
        return {}
    found: dict[str, str] = ray.get(keeper.fetch.remote(list(marks)), timeout=ANSWER_S)
    return found

"""Which keys there are, for the HAProxy of every machine: from the file of keys and from what
``up`` declared, written down in Ray's head (``deployments.ingress.access_table``).

The catalogue looks twice a second, on the machine where the files are. So a key that is added,
removed or rotated is known on every machine within two looks and what HAProxy takes to be told,
a second or so, and nothing is started anew. Where the file cannot be read, the keys of before stay,
the log and `status` say so, and a machine that has none yet answers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.control.declarations import FunctionDeclaration
from deployments.ingress.access_table import publish, published_maps
from deployments.ingress.haproxy.access import ALL, AccessMaps, access_maps
from deployments.ray_support.environment import MARK
from deployments.ray_support.haproxy_names import KEYS_FAULT
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.access.keys import AccessKey
from runtime.declaration.http_section import KeySpec
from runtime.errors import DeclarationError
from runtime.system.files import write_whole

if TYPE_CHECKING:
    from deployments.ray_support.ray_internals import HeadStore

LOOK_S: Final = 0.5

logger = logging.getLogger("wakeful.keys")


class KeyPublisher:
    """Publishes the keys, from the first ``notify_declared`` on, as long as the catalogue lives.
    Used on its event loop; ``_look`` runs in a thread, one at a time.

    Args:
        prefixes: returns each function's name by its prefix.
        store: of Ray's head.
        home: the state folder; None: the cluster is not one of ours, and has no keys.

    Mutable state: ``_declared``, set when functions were; ``_auth``, what ``up`` last said, and
    ``_table`` of that (None: no keys); ``_seen``, the prefixes that were published with it, and
    ``_fault``, why the keys could not be read then (empty: they could).
    """

    def __init__(
        self,
        prefixes: Callable[[], Mapping[str, str]],
        store: type[HeadStore],
        home: Path | None,
    ) -> None:
        self._prefixes = prefixes
        self._store = store
        self._declared = asyncio.Event()
        self._auth: object = ()
        self._table: KeyTable | None = None
        self._seen: object = None
        self._fault = ""
        self._task = (
            None
            if home is None
            else asyncio.get_running_loop().create_task(self._run(home), name="keys")
        )

    @classmethod
    def of_this_cluster(
        cls, prefixes: Callable[[], Mapping[str, str]], store: type[HeadStore]
    ) -> KeyPublisher:
        """Of the cluster that this process is of."""
        home = os.environ.get(MARK)
        return cls(prefixes, store, Path(home) if home else None)

    def notify_declared(self) -> None:
        """Other functions are declared: keys may open them at once."""
        self._declared.set()

    async def close(self) -> None:
        """Publish no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, home: Path) -> None:
        await self._declared.wait()
        while True:
            self._declared.clear()
            try:
                await asyncio.to_thread(self._look, home, dict(self._prefixes()))
            except (
                Exception
            ):  # of Ray's own kinds, or of a disk; the next look says all of it again
                logger.warning("the keys are not published.", exc_info=True)
                self._seen = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._declared.wait()

    def _look(self, home: Path, functions: Mapping[str, str]) -> None:
        """Publish what has changed. Blocking."""
        try:
            up = json.loads((home / "up.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return  # the cluster ends
        auth, prefixes = up.get("auth"), {**other_prefixes(up.get("deployed", ())), **functions}
        if auth != self._auth:
            self._table = None if auth is None else table_of(auth)
            self._auth, self._seen = auth, None
        if self._seen == prefixes and not (self._table and self._table.has_changed()):
            return
        if self._table is None:
            publish(self._store, is_on=False, maps=None)
            say_fault(home, "")
        else:
            self._publish(self._table, prefixes, home)
        self._seen = prefixes

    def _publish(self, table: KeyTable, prefixes: Mapping[str, str], home: Path) -> None:
        maps: AccessMaps | None
        try:
            maps = access_maps(table.read(), prefixes)
        except DeclarationError as error:
            fault = f"keys stay as they were, since their file is wrong: {error}"
            if (self._seen, self._fault) == (prefixes, fault):
                return  # one that may pass is met at each look
            maps = published_maps(self._store)
        else:
            fault = ""
        say_fault(home, fault)
        self._fault = fault
        publish(self._store, is_on=True, maps=maps)


def table_of(auth: Mapping[str, Any]) -> KeyTable:
    """Return the keys that ``up`` wrote down (``ClusterState.auth``)."""
    declared = (AccessKey.of(KeySpec.model_validate(key)) for key in auth["keys"])
    return KeyTable(declared, Path(auth["file"]))


def prefixes_of(declarations: Iterable[FunctionDeclaration]) -> dict[str, str]:
    """Return the functions by their prefixes, for ``access_maps``. Where one is moving, the prefix
    that is its own is rather another's than one where it may be still.
    """
    public = [one for one in declarations if not one.part_of]
    moving = {prefix: one.name for one in public for prefix in one.also_at}
    return {**moving, **{one.url: one.name for one in public}}


def other_prefixes(deployed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the prefixes of applications that are not ours, for ``access_maps``. One at ``/`` is
    below every other, and needs a key of all functions as what is not known does.

    Args:
        deployed: as ``up`` wrote it down (``DeployedApp`` as plain data).
    """
    return {
        app["route_prefix"]: ALL
        for app in deployed
        if app["role"] == "other" and app["route_prefix"] not in ("", "/")
    }


def say_fault(home: Path, text: str) -> None:
    """Write down for `status` why the file of keys is not taken; empty: it is."""
    file = home / KEYS_FAULT
    if not text:
        file.unlink(missing_ok=True)
        return
    logger.warning("%s", text)
    write_whole(file, text)

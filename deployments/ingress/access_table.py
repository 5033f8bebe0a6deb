"""The keys that a HAProxy knows: files beside its configuration, which it reads when it starts, and
what it is told while it runs (``haproxy.access`` has the maps).

On a cluster of Ray the catalogue writes down in Ray's head which keys there are (``publish``), and
on each machine the process that starts HAProxy keeps it up to date with that (``keep``). A machine
that joins, or whose HAProxy is started anew, has the keys from there, also while the catalogue does
not run. Where they cannot be had, HAProxy goes on with those that it has: a key that has expired is
refused all the same, and a machine that has lost the head for long is none of the cluster any more,
and its HAProxy ends. One that has had none yet refuses all.

HAProxy's own counts (requests of a key, guesses of an address) are of one of its processes, and of
one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deployments.ingress import admin_socket
from deployments.ingress.haproxy.access import AccessMaps, map_name, write_files
from deployments.ingress.tls.watch import watch
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.environment import MARK
from deployments.ray_support.state_dir import StateDir

if TYPE_CHECKING:
    from deployments.ray_support.ray_internals import HeadStore

LOOK_S: Final = 0.5
"""How often a machine asks Ray's head whether the keys have changed: 0.4 ms each time."""

WAIT_POLL_S: Final = 0.05

TABLE_KEY: Final = "wakeful-keys"
VERSION_KEY: Final = "wakeful-keys-version"
"""In Ray's head."""

logger = logging.getLogger("wakeful.keys")


class AccessTable:
    """The keys of one HAProxy. Blocking, for some milliseconds per thousand keys.

    Args:
        folder: of HAProxy's configuration, and of its socket.

    Mutable state: ``_maps``, that it is to have; ``_is_written``, they are in the files; ``_told``,
    the process that has them; ``_former``, the grants of those before, until they are replaced;
    ``_is_said``, the log has that it does not take them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: AccessMaps | None = None
        self._told: int | None = None
        self._is_written = False
        self._is_said = False
        self._former: Mapping[str, str] = {}

    @property
    def socket(self) -> Path:
        """Of HAProxy, for commands."""
        return self._folder / "s"

    def set_maps(self, maps: AccessMaps) -> None:
        """From now on these are its maps; a HAProxy that starts reads them.

        Raises:
            OSError: the files cannot be written; HAProxy is told all the same.
        """
        if maps != self._maps:
            self._former = {} if self._maps is None else self._maps.grants
            self._maps, self._told, self._is_written = maps, None, False
        try:
            if not self._is_written:
                write_files(self._folder, maps)
                self._is_written = True
        finally:
            self.refresh()

    def refresh(self) -> None:
        """Tell HAProxy, if it is another process than the one that knows, or not told all yet."""
        maps, pid = self._maps, self._process_id()
        if maps is None or pid is None or pid == self._told:
            return
        # a key that is not replaced yet still has what it opens
        steps = [
            ("functions", maps.functions),
            ("grants", {**self._former, **maps.grants}),
            ("keys", maps.keys),
            *([("grants", maps.grants)] if self._former.keys() - maps.grants.keys() else ()),
        ]
        if not all(
            admin_socket.replace_map(self.socket, map_name(name), entries)
            for name, entries in steps
        ):
            if not self._is_said:
                logger.warning("HAProxy has not taken all keys; it is told until it does.")
                self._is_said = True
            return
        self._former, self._is_said = {}, False
        if self._process_id() == pid:  # else another one has the socket by now
            self._told = pid

    def _process_id(self) -> int | None:
        return admin_socket.process_id(self.socket, admin_socket.MAPS_S)


def publish(store: type[HeadStore], *, is_on: bool, maps: AccessMaps | None) -> None:
    """Write down which keys there are, for all machines. Blocking.

    Args:
        is_on: calls need keys.
        maps: None: it is not known which keys there are; where it never was, no call is answered.
    """
    text = json.dumps({"is_on": is_on, "maps": None if maps is None else maps.to_dict()})
    store.put(TABLE_KEY, text)
    store.put(VERSION_KEY, hashlib.sha256(text.encode()).hexdigest())


def published_maps(store: type[HeadStore]) -> AccessMaps | None:
    """What was written down last; None: nothing. Blocking."""
    found = json.loads(store.get(TABLE_KEY) or "{}").get("maps")
    return None if found is None else AccessMaps.from_dict(found)


def wait_known(home: Path, prefixes: Collection[str], *, timeout_s: float) -> None:
    """Return as soon as this machine's HAProxy has heard of these functions; blocking.

    Args:
        home: the state folder.

    Raises:
        RayError: it has not in time.
    """
    until = time.monotonic() + timeout_s
    while missing := {f"{one}/" for one in prefixes} - _known_prefixes(home):
        if time.monotonic() > until:
            raise RayError(
                f"HAProxy has not heard of {', '.join(sorted(missing))} within {timeout_s:g} s, so "
                "keys for some functions do not open these. `wakeful logs catalogue` may say why."
            )
        time.sleep(WAIT_POLL_S)


def _known_prefixes(home: Path) -> set[str]:
    lines = set[str]()
    for file in home.glob(f"hap/*/{map_name('functions')}"):
        with contextlib.suppress(OSError):
            lines.update(file.read_text(encoding="utf-8").splitlines())
    return {line.partition(" ")[0] for line in lines}


class KeyKeeper:
    """Keeps the HAProxy of this machine up to date with what ``publish`` wrote down. Blocking.

    Args:
        folder: as of ``AccessTable``.
        home: the state folder of this machine.

    Mutable state: ``_version`` of what was read; ``_is_on``; ``_reloaded_for``, the last ``_is_on``
    that HAProxy was to be started anew for.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self._table = AccessTable(folder)
        self._home = StateDir(home)
        self._version = ""
        self._is_on = False
        self._reloaded_for: bool | None = None

    def look(self, store: type[HeadStore]) -> bool:
        """Ask, and tell HAProxy what is new. Return whether it has to be started anew, since it
        asks for keys and is not to, or the other way round: said once for each change, so a HAProxy
        that refuses the configuration is left alone.

        Raises:
            OSError, Exception: of Ray's own kinds; all is as it was, but for what could be done.
        """
        version = store.get(VERSION_KEY)
        if version is None:
            return False
        if version == self._version:
            self._table.refresh()
        else:
            found = json.loads(store.get(TABLE_KEY) or "{}")
            self._is_on = bool(found["is_on"])
            self._write_down()
            if found["maps"] is not None:
                self._table.set_maps(AccessMaps.from_dict(found["maps"]))
            self._version = version
        asks = admin_socket.has_map(self._table.socket, map_name("keys"))
        if asks is None or asks is self._is_on:
            self._reloaded_for = None
            return False
        is_new, self._reloaded_for = self._reloaded_for is not self._is_on, self._is_on
        return is_new

    def _write_down(self) -> None:
        """On a machine that joined, what ``up`` says on the head: HAProxy's program and the
        processes behind it read it there.
        """
        up = self._home.load()
        if up is not None and up.kind == "node" and bool(up.auth) is not self._is_on:
            self._home.save(replace(up, auth={"is_on": True} if self._is_on else None))


async def keep(folder: Path, reload: Callable[[], Awaitable[None]]) -> None:
    """Keep a HAProxy of a cluster of ours up to date, its certificates too, for as long as the
    caller lives: the process that starts it (``environment.BESIDE_HAPROXY``).

    Args:
        folder: as of ``AccessTable``.
        reload: starts it anew.
    """
    # late: HAProxy before the processes of a run has no Ray
    from deployments.ray_support.ray_internals import HeadStore

    home = os.environ.get(MARK, "")
    if not home:
        return
    certificates = asyncio.create_task(watch(folder))
    keeper, is_well = KeyKeeper(folder, Path(home)), True
    try:
        while True:
            try:
                if await asyncio.to_thread(keeper.look, HeadStore):
                    await reload()
                is_well = True
            except Exception:  # Ray raises many types where its head does not answer; this goes on
                if is_well:
                    logger.warning("HAProxy goes on with the keys that it has.", exc_info=True)
                is_well = False
            await asyncio.sleep(LOOK_S)
    finally:
        certificates.cancel()

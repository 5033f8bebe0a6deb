"""What a process of ``wakeful run --workers`` has of the one that started it: a pipe, over which it
says where it serves and that it lives, and is told of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.local.peers import OWN_PREFIX, Peers
from deployments.ray_support.secret_store import edge_secret
from runtime.errors import WakefulError
from runtime.http.catalogue.process_share import CatalogueSources, ProcessShare
from runtime.http.transport.edge import EdgeGuard
from runtime.library.capture.captures import Order
from runtime.library.library import FunctionLibrary

if TYPE_CHECKING:
    from runtime.http.transport.draining_server import DrainingServer

SERVING: Final = "serving"
"""From a process: it accepts connections, at this port."""

LEAVING: Final = "leaving"
"""From a process: it accepts no more, answers what it has, and ends."""

ALIVE: Final = "alive"
"""From a process, every ``ALIVE_S``: its event loop runs."""

PINNED: Final = "pinned"
"""From a process: a function is pinned, or no longer."""

CAPTURED: Final = "captured"
"""From a process: an operator has a function's calls recorded, or no longer."""

GROUP: Final = "group"
"""To a process: a ``GroupState``."""

ANNOUNCE: Final = "announce"
"""To one process: all serve; it prints where, and how each function is called."""

ALIVE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GroupState:
    """What holds for all processes.

    Attributes:
        ports: of those that serve, by place.
        quarantined: why a function is not run any more, by name.
        pinned: names of functions.
        captured: orders of operators to record calls, by function.
    """

    ports: Mapping[int, int] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()
    captured: Mapping[str, Order] = field(default_factory=dict)


class ProcessLink:
    """Used in the process, from its event loop on.

    Args:
        slot: its place, from 0 on.
        processes: their number.
        folder: of the run.
        secret: of the run, as of ``FrontRules``: what comes to this process past HAProxy, and not
            from another process, is refused; empty: nothing is.

    Attributes:
        is_first: whether this is the first process that was started at all.

    Mutable state: ``_library``, ``_own`` (what is told of it), ``_refused`` (functions that are
    quarantined from the start) and ``_peers``, from ``join`` on; ``_server``, once it serves;
    ``_quarantined`` and ``_captured``, as it was told last; ``_tasks`` that pin and order.
    """

    def __init__(
        self,
        pipe: Connection,
        slot: int,
        processes: int,
        folder: Path,
        *,
        is_first: bool,
        secret: str = "",
    ) -> None:
        self.slot = slot
        self.processes = processes
        self.folder = folder
        self.is_first = is_first
        self._secret = secret
        self._pipe = pipe
        self._server: DrainingServer | None = None
        self._announce: Callable[[], None] = lambda: None
        self._quarantined: Mapping[str, str] = {}
        self._captured: Mapping[str, Order] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def share(self) -> ProcessShare:
        """As the server takes it."""
        return ProcessShare(
            self.processes, crash_folder(self.folder), OWN_PREFIX, self._join, self._say_leaving
        )

    @property
    def guard(self) -> EdgeGuard | None:
        """As the server takes it."""
        return run_guard(self._secret)

    def serve(self, server: DrainingServer, port: int, announce: Callable[[], None]) -> None:
        """The server accepts connections. Runs on its loop.

        Args:
            announce: called once all processes serve, in one of them.
        """
        self._server, self._announce = server, announce
        self._pipe.send((SERVING, port))

    def _join(self, library: FunctionLibrary, own: CatalogueSources) -> CatalogueSources:
        self._library, self._own = library, own
        self._refused = library.quarantined
        self._peers = Peers(
            self.slot,
            own,
            front_socket(self.folder),
            self._say_pinned,
            self._say_captured,
            self._secret.encode(),
        )
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._on_message)
        self._say_alive(loop)
        return self._peers.sources()

    def _on_message(self) -> None:
        try:
            kind, data = self._pipe.recv()
        except (EOFError, OSError):  # the process that started it ends, or is gone
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            if self._server is not None:
                self._server.drain()
            return
        if kind == ANNOUNCE:
            self._announce()
        else:
            self._take(data)

    def _take(self, group: GroupState) -> None:
        self._peers.set_ports(group.ports)
        if group.quarantined != self._quarantined:
            self._quarantined = group.quarantined
            self._library.set_quarantined({**self._refused, **group.quarantined})
        for name in group.pinned:
            if not self._library.entries.require(name).is_kept:
                self._run(_pin(self._own, name))
        told, self._captured = self._captured, group.captured
        for name, order in group.captured.items():
            if order != told.get(name) and order.until > time.time():
                self._run(_capture(self._own, name, order))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say_alive(self, loop: asyncio.AbstractEventLoop) -> None:
        self._send(ALIVE, None)
        loop.call_later(ALIVE_S, self._say_alive, loop)

    def _say_leaving(self) -> None:
        self._send(LEAVING, None)

    def _say_pinned(self, name: str, is_pinned: bool) -> None:
        self._send(PINNED, (name, is_pinned))

    def _say_captured(self, name: str, order: Order | None) -> None:
        self._send(CAPTURED, (name, order))

    def _send(self, kind: str, data: object) -> None:
        with contextlib.suppress(OSError):  # what was to be told is gone
            self._pipe.send((kind, data))


async def _pin(own: CatalogueSources, name: str) -> None:
    with contextlib.suppress(WakefulError):  # it stays pinned, and is loaded again
        await own.repository.pin(name)


async def _capture(own: CatalogueSources, name: str, order: Order) -> None:
    with contextlib.suppress(WakefulError):  # its folder cannot be written here either
        if own.captures is not None:
            await own.captures.start(name, order)


def run_guard(secret: str) -> EdgeGuard | None:
    """What knows which requests came through HAProxy, or from another process of the run.

    Args:
        secret: of the run; empty: it asks for nothing, and everything is answered.
    """
    return EdgeGuard(edge_secret(secret).encode(), secret.encode()) if secret else None


def crash_folder(folder: Path) -> Path:
    """Of a run's folder: where its processes record what they run."""
    return folder / "work"


def front_socket(folder: Path) -> Path:
    """Of a run's folder: HAProxy's socket."""
    return folder / "s"

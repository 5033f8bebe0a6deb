"""Loads, unloads and pins functions of a cluster for its operator, wherever they belong.

A load is a request for the function's readiness at this machine's HAProxy, which wakes it as any
call does. An unload and a pin are said to the placement (``KeptFunctions``), whose orders reach the
host with its next report, and to the scaling policies (``deployments.ingress.residency_signal``).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deployments.control.declarations import FunctionDeclaration
from deployments.ingress import residency_signal
from deployments.placement.controller import PlacementController
from deployments.placement.function_state import FunctionState, require_state
from deployments.serving.remote_caller import HttpFunctionCaller, RemoteFunction
from runtime.errors import RequestError
from runtime.library.residency import (
    LOAD_WAIT_S,
    UNLOAD_WAIT_S,
    require_may_sleep,
    still_busy_error,
)

POLL_S: Final = 0.1

STATUS_S: Final = 0.3
"""How old Ray's status may be while an unload waits for a deployment of its own."""

AWAKE: Final = ("ready", "waking", "draining")


class ClusterRepository:
    """Implements ``runtime.library.residency.FunctionRepository``. Used on the event loop of the
    controller.

    Args:
        caller: calls functions at HAProxy.
    """

    def __init__(self, controller: PlacementController, caller: HttpFunctionCaller) -> None:
        self._controller = controller
        self._caller = caller
        self._telling = ThreadPoolExecutor(1, thread_name_prefix="residency")

    async def load(self, name: str) -> None:
        """See ``FunctionRepository``. Raises as ``HttpFunctionCaller.wake``."""
        declaration = self._require(name).declaration
        self._caller.add_functions({name: to_callee(declaration)})
        await self._caller.wake(name, LOAD_WAIT_S)

    async def unload(self, name: str) -> None:
        """See ``FunctionRepository``.

        Raises:
            NotFound: no such function is declared.
            RequestError: it is to be awake (409), or its policy cannot be told.
            Unavailable: it was not idle in time.
        """
        state, kept = self._require(name), self._controller.placement.kept
        require_may_sleep(state.spec, kept.pinned, time.time())
        _require_signal(state)
        kept.sleeping.update((name,))
        try:
            await self.tell_policies()
            asked = time.monotonic()
            while not self._has_reported_since(asked) or await self._is_awake(name):
                if time.monotonic() > asked + UNLOAD_WAIT_S:
                    raise still_busy_error(name)
                self._controller.notify_changed()
                await asyncio.sleep(POLL_S)
        finally:
            kept.sleeping -= Counter((name,))  # another operator's order stays
            await self.tell_policies()

    async def pin(self, name: str) -> None:
        """See ``FunctionRepository``. It stays pinned if the load fails, and is loaded again.

        Raises:
            WakefulError: as ``load``; RequestError if its policy cannot be told.
        """
        _require_signal(self._require(name))
        await self._set_pinned(name, is_pinned=True)
        await self.load(name)

    async def unpin(self, name: str) -> None:
        """See ``FunctionRepository``.

        Raises:
            NotFound: no such function is declared.
        """
        self._require(name)
        await self._set_pinned(name, is_pinned=False)

    async def tell_policies(self) -> None:
        """Tell the scaling policies what is pinned, and what is to sleep. What is told is told in
        order, though the caller leaves: an earlier state would take the place of a later one.
        """
        kept, states = self._controller.placement.kept, self._controller.placement.functions
        own = {name for name, state in states.items() if state.is_always_own}
        telling = asyncio.get_running_loop().run_in_executor(
            self._telling, _tell_policies, kept.pinned & own, kept.sleeping.keys() & own
        )
        await asyncio.shield(telling)

    async def _set_pinned(self, name: str, *, is_pinned: bool) -> None:
        self._controller.placement.pin(name, is_pinned=is_pinned)
        await self._controller.persist()
        await self.tell_policies()
        self._controller.notify_changed()

    def _has_reported_since(self, asked: float) -> bool:
        """Whether each host has: it may have loaded the function a moment before."""
        return all(at > asked for at, _ in self._controller.placement.hosts.values())

    async def _is_awake(self, name: str) -> bool:
        """Whether calls are answered without a wake; not known of a function that is gone."""
        placement = self._controller.placement
        state = placement.functions.get(name)
        if state is None:
            return False
        if state.tier == "host":
            reports = (report.functions.get(name) for _, report in placement.hosts.values())
            return any(report is not None and report.state in AWAKE for report in reports)
        app = (await self._controller.latest_apps(STATUS_S)).get(name)
        return not state.is_always_own or (app is not None and app.replicas > 0)

    def _require(self, name: str) -> FunctionState:
        return require_state(self._controller.placement.functions, name)


def to_callee(declaration: FunctionDeclaration) -> RemoteFunction:
    """Return what is known of a declared function that is to be called."""
    return RemoteFunction.of((declaration.url, *declaration.also_at), declaration.args)


def _tell_policies(pinned: Collection[str], sleeping: Collection[str]) -> None:
    residency_signal.set_pinned(pinned)
    residency_signal.set_sleeping(sleeping)


def _require_signal(state: FunctionState) -> None:
    if state.is_always_own and not residency_signal.is_available():
        raise RequestError(
            f"{state.name!r} has a deployment of its own on a cluster that `wakeful up` did not"
            " start, where its replicas cannot be told. Declare autoscaling.min_replicas or"
            " autoscaling.awake.",
            status=409,
        )

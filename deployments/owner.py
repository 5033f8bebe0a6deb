"""The owner of placement at work: looks at Ray, asks ``placement`` what to do, and does it, in threads so that nothing waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import ray
from ray import serve

from deployments.application import promoted
from deployments.bell import take_down
from deployments.placement import Placement
from deployments.rayprivate import free_by_node, prestart, versioned
from deployments.room import roomiest
from deployments.seat import Words
from deployments.spares import KEEP_ALIVE_S, Spares
from deployments.states import settling
from deployments.steps import Do
from deployments.watchdog import Watchdog
from runtime.spec import FunctionSpec
from runtime.tiers import Thresholds

logger = logging.getLogger("wakeful.owner")

STEP_S: Final = 0.1
"""Between two looks while something is under way; a promotion takes two to three seconds."""

CALM_S: Final = 0.5
"""Between two looks else; reports come once a second."""

STATUS_S: Final = 3.0
"""How old Ray's status may be while nothing is under way: it costs the controller a few milliseconds."""

RAY_S: Final = 60.0
"""Longest wait for Ray to take one order."""


class Owner:
    """Runs until closed; ``declare``, ``heard`` and ``apps`` are called on its event loop.

    Args:
        name: of the application it lives in; replicas that it deploys report there.
        spares: processes kept started for replicas to come.

    Mutable state: ``_apps`` and ``_apps_at`` (Ray's status, and when it was asked for), ``_doing`` (orders under way),
    ``_replicas`` (ids of those that have reported).
    """

    def __init__(self, name: str, thresholds: Thresholds, spares: int) -> None:
        self.placement = Placement(thresholds)
        self._spares = Spares(spares)
        self._watchdog = Watchdog.of_this_cluster()
        self._node = ray.get_runtime_context().get_node_id()
        self._name = name
        self._apps: dict[str, Words] = {}
        self._apps_at = 0.0
        self._doing: set[asyncio.Task[None]] = set()
        self._replicas: deque[str] = deque(maxlen=1000)
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="placement")

    @property
    def is_healthy(self) -> bool:
        """Whether it still decides."""
        return not self._task.done()

    def declare(self, functions: Iterable[Words]) -> None:
        """Other functions are declared."""
        self._start(self.placement.declare(functions, time.monotonic()))
        self._apps_at = 0.0
        self._changed.set()

    def heard(self, report: Words) -> Words:
        """A process reports; the answer is what it is to do."""
        if report["kind"] == "own" and report["id"] not in self._replicas:
            self._replicas.append(report["id"])
            self._spares.taken(report["last_wake"]["at"], time.time())
        if report.get("node", self._node) == self._node:  # another machine's process may have the id of one of this
            self._watchdog.heard(report["pid"])
        answer = self.placement.heard(report, time.monotonic(), time.time())
        self._changed.set()
        return answer

    @property
    def known_apps(self) -> dict[str, Words]:
        """Ray's applications by name, as they were when somebody looked last."""
        return self._apps

    async def apps(self, max_age_s: float) -> dict[str, Words]:
        """Ray's applications by name, as they were at most ``max_age_s`` ago."""
        asked = time.monotonic()
        if asked - self._apps_at > max_age_s:
            apps = await asyncio.to_thread(lambda: {state["name"]: state for state in settling(serve.status())})
            if asked > self._apps_at:  # somebody who asked later may have been answered sooner
                self._apps, self._apps_at = apps, asked
        return self._apps

    async def close(self) -> None:
        """Decides nothing more; what is under way is left to Ray. Idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._watchdog.close()

    async def _run(self) -> None:
        found = False
        while True:
            moving = any(seat.step != "settled" for seat in self.placement.seats.values())
            try:
                apps = await self.apps(0.0 if moving else STATUS_S)
                seen = self._apps_at
                if not found and self.placement.seats:
                    self._start(self.placement.standing(apps, time.monotonic(), time.time()))
                    found = True
                await self._replace_spares()
                free = roomiest(await asyncio.to_thread(free_by_node)) if self.placement.hosts else {}
                self._start(self.placement.step(time.monotonic(), time.time(), apps, seen, free))
            except Exception:  # Ray's controller may be restarting; the next look finds it
                logger.warning("placement could not look at Ray", exc_info=True)
            if moving:
                await asyncio.sleep(STEP_S)
                continue
            self._changed.clear()
            await asyncio.sleep(CALM_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), STATUS_S)

    async def _replace_spares(self) -> None:
        wanted = self._spares.wanted(time.time())
        if wanted:
            await asyncio.to_thread(prestart, wanted, int(KEEP_ALIVE_S))

    def _start(self, todo: Iterable[Do]) -> None:
        for do in todo:
            task = asyncio.get_running_loop().create_task(self._do(do), name=f"{do.kind} {do.name}")
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)

    async def _do(self, do: Do) -> None:
        error = ""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._perform, do), RAY_S)
        except Exception as failed:
            logger.warning("%s of %s failed", do.kind, do.name, exc_info=True)
            error = f"{type(failed).__name__}: {failed}"
        self._apps_at = 0.0
        self._start(self.placement.done(do.name, error, time.monotonic(), time.time()))

    def _perform(self, do: Do) -> None:
        if do.kind == "delete":
            serve.delete(do.name)
            take_down(do.name)
            return
        data: dict[str, Any] = self.placement.seats[do.name].data
        spec = FunctionSpec.from_args(do.name, data["url"], data["args"])
        target = serve.RunTarget(
            target=versioned(promoted(spec, owner=self._name, why=do.why), data["identity"]),
            name=do.name,
            route_prefix=data["url"] if do.routed else None,
        )
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

"""How Ray Serve's proxies come back when one of them dies: HAProxy, the actor that starts it (its
manager), and the proxy that holds the calls of functions without a replica.

Serve's controller has this done when it starts (``ray_internals.prepare_controller``), before it
starts a proxy. Ray by itself asks each proxy every 10 s how it is, and replaces one that has failed
three times, HAProxy's death included: measured on two cores, 24 to 27 s without HTTP. Asking more
often alone would replace processes that are only busy. So:

- HAProxy is started again by its manager at once, on the configuration that it had;
- a proxy or a manager whose process is gone is replaced at the first check that says so; one that
  does not answer still has to fail three times.

Measured so: 0.15 s after HAProxy's death, 1.7 s after its manager's, with which HAProxy dies, and
1.2 s after that of the proxy that holds calls.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import os
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import ActorDiedError
from ray.serve._private import controller, haproxy, proxy_state
from ray.serve._private.constants import PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD
from ray.serve.schema import ProxyStatus

from deployments.ray_support.environment import BESIDE_HAPROXY

PAUSE_S: Final = 0.5
"""Between two attempts to start HAProxy again. Where none succeeds Ray replaces the manager."""

# the class as it is written: what the decorator of an actor makes of it cannot be inherited from
_RaysManager: Any = haproxy.HAProxyManager.__ray_metadata__.modified_class.__ray_actor_class__  # type: ignore[attr-defined]

logger = logging.getLogger("ray.serve")


def _report_failure(path: str, task: asyncio.Task[None]) -> None:
    """The manager holds the task, so asyncio would not say that it has failed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s does not run any more.", path, exc_info=error)


class HAProxyManager(_RaysManager):  # type: ignore[misc]  # a class that only Ray has made
    """Ray's manager, which starts HAProxy again when it dies. The name is Ray's, and so that of the
    process (``deployments.ingress.draining``). ``environment.BESIDE_HAPROXY`` runs beside it.

    Mutable state: ``_beside``, that task; ``_watched``, the HAProxys whose end is awaited, by the
    task that does; and ``_is_ending``, once the manager itself ends HAProxy.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_ending = False
        self._watched: dict[Any, asyncio.Task[None]] = {}
        self._beside = self._run_beside(os.environ.get(BESIDE_HAPROXY, ""))
        self._haproxy_start_task.add_done_callback(lambda _: self._watch())

    def _run_beside(self, path: str) -> asyncio.Task[None] | None:
        """What runs as long as this process; what it fails with costs no HTTP.

        Args:
            path: ``MODULE:COROUTINE``; empty: nothing does.
        """
        module, _, name = path.partition(":")
        if not name:
            return None
        try:
            run = getattr(importlib.import_module(module), name)
        except Exception:
            logger.exception("%s does not run.", path)
            return None
        folder = Path(self._haproxy.cfg.socket_path).parent
        task: asyncio.Task[None] = self.event_loop.create_task(run(folder, self._reload_haproxy))
        task.add_done_callback(functools.partial(_report_failure, path))
        return task

    async def shutdown(self) -> None:
        """End HAProxy, for good."""
        self._is_ending = True
        await super().shutdown()

    async def update_draining(self, draining: bool, _after: Any = None) -> None:
        """As Ray does, by a reload."""
        await super().update_draining(draining, _after)
        self._watch()

    async def _reload_haproxy(self) -> None:
        await super()._reload_haproxy()
        self._watch()

    def _watch(self) -> None:
        """Await the end of the HAProxy that runs now; it may be awaited already, or not run."""
        process = self._haproxy._proc
        if process is not None and process not in self._watched:
            self._watched[process] = asyncio.ensure_future(self._start_after(process))

    async def _start_after(self, process: asyncio.subprocess.Process) -> None:
        """Start HAProxy again once this one has died, but for one that a reload has displaced."""
        try:
            await process.wait()
            while not await self._has_successor(process):
                await asyncio.sleep(PAUSE_S)
        finally:
            del self._watched[process]

    async def _has_successor(self, process: asyncio.subprocess.Process) -> bool:
        async with self._reload_lock:
            if self._is_ending or self._haproxy._proc is not process:
                return True
            logger.warning("HAProxy (pid=%d) died; it is started again.", process.pid)
            try:
                await self._haproxy.start()
            except Exception:  # Ray's own of all kinds; the next attempt, or Ray, puts it right
                logger.exception("HAProxy did not start again.")
                return False
        self._watch()
        return True


def start_our_manager() -> None:
    """Make Serve's controller start our manager. Called once, in the controller's process."""
    controller.HAProxyManager = ray.remote(num_cpus=0)(HAProxyManager)  # type: ignore[assignment,attr-defined]


def replace_the_dead_at_once() -> None:
    """A proxy whose process is gone needs no further failed checks.

    What a check found, Serve keeps to itself: the wrapper of a proxy says False for "dead" and for
    "no answer", and three of these are a failure. So the wrapper is made to remember.
    """
    wrapper: Any = proxy_state.ActorProxyWrapper
    state: Any = proxy_state.ProxyState
    is_healthy, try_update_status = wrapper.is_healthy, state.try_update_status

    def is_healthy_or_dead(proxy: Any, timeout_s: float) -> bool | None:
        asked = proxy._health_check_future
        answer: bool | None = is_healthy(proxy, timeout_s)
        proxy.is_dead = (
            answer is False and asked is not None and isinstance(asked.exception(), ActorDiedError)
        )
        return answer

    def update_at_once(proxy: Any, status: ProxyStatus) -> None:
        if getattr(proxy._actor_proxy_wrapper, "is_dead", False):
            proxy._consecutive_health_check_failures = PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD - 1
        try_update_status(proxy, status)

    wrapper.is_healthy = is_healthy_or_dead
    state.try_update_status = update_at_once

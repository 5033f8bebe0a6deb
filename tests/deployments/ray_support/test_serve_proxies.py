"""What Serve's proxies do when one of them dies: on Ray's own classes, and without a Ray."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve._private import constants, controller, haproxy, proxy_state
from ray.serve.schema import ProxyStatus

from deployments.ray_support import serve_proxies
from deployments.ray_support.deadlines import proxy_patience
from deployments.ray_support.environment import (
    BESIDE_HAPROXY,
    SERVING,
    to_mapping,
)
from deployments.ray_support.serve_proxies import HAProxyManager

CHECKED: list[tuple[BaseException | None, list[str]]] = [
    (ActorDiedError(), ["UNHEALTHY"]),
    (
        ActorUnavailableError("no connection at present", b"0" * 16),
        ["HEALTHY", "HEALTHY", "UNHEALTHY"],
    ),
    (TimeoutError(), ["HEALTHY", "HEALTHY", "UNHEALTHY"]),
    (ValueError("of its own"), ["HEALTHY", "HEALTHY", "UNHEALTHY"]),
    (None, ["HEALTHY", "HEALTHY", "HEALTHY"]),
]


class Haproxy:
    """HAProxy as Ray's manager has it: a process, and what starts another.

    Attributes:
        started: how often.
        broken: so many starts fail first.
    """

    def __init__(self) -> None:
        self._proc: Any = None
        self.cfg = SimpleNamespace(socket_path="/h/hap/n/s")
        self.started = 0
        self.broken = 0

    async def start(self) -> None:
        self.started += 1
        if self.broken:
            self.broken -= 1
            raise RuntimeError("HAProxy crashed during startup")
        self._proc = await asyncio.create_subprocess_exec("sleep", "60")

    async def stop(self) -> None:
        """As Ray's own: it forgets the process once it has ended."""
        self._proc.kill()
        await self._proc.wait()
        self._proc = None


@asynccontextmanager
async def managed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Haproxy]]:
    """A manager whose HAProxy runs, and that."""
    monkeypatch.setattr(serve_proxies, "PAUSE_S", 0.01)

    def prepare(manager: Any) -> None:
        manager._haproxy, manager._reload_lock = Haproxy(), asyncio.Lock()
        manager._haproxy_start_task = asyncio.ensure_future(manager._haproxy.start())
        manager._metrics_collector, manager._node_id = None, "node"
        manager.event_loop = asyncio.get_running_loop()

    async def reload(manager: Any) -> None:
        """As Ray's own: under the lock, and the process before is another's to end."""
        async with manager._reload_lock:
            await manager._haproxy.start()

    (of_ray,) = HAProxyManager.__bases__
    monkeypatch.setattr(of_ray, "__init__", prepare)
    monkeypatch.setattr(of_ray, "_reload_haproxy", reload)
    manager: Any = HAProxyManager()
    await manager._haproxy_start_task
    await asyncio.sleep(0)
    try:
        yield manager, manager._haproxy
    finally:
        if manager._haproxy._proc is not None:
            await manager.shutdown()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def fail(folder: Path, reload: object) -> None:
    """What runs beside HAProxy, and ends with a fault."""
    raise LookupError(str(folder))


def test_what_runs_beside_haproxy_does_not_fail_in_silence(monkeypatch):
    """HTTP goes on, and the log says what does not."""
    said: list[str] = []
    monkeypatch.setenv(BESIDE_HAPROXY, f"{__name__}:fail")
    monkeypatch.setattr(
        serve_proxies.logger,
        "error",
        lambda text, path, exc_info: said.append(f"{text % path} {exc_info!r}"),
    )

    async def work() -> None:
        async with managed(monkeypatch):
            await until(lambda: bool(said))

    asyncio.run(work())
    assert said == [f"{__name__}:fail does not run any more. LookupError('/h/hap/n')"]


def test_haproxy_that_dies_is_started_again_each_time(monkeypatch):
    """And once more where a start fails."""

    async def work() -> list[int]:
        async with managed(monkeypatch) as (_, running):
            counts = [running.started]
            for broken in (0, 0, 2):
                running.broken = broken
                before = running._proc
                os.kill(before.pid, signal.SIGKILL)
                await until(lambda before=before: running._proc is not before)
                counts.append(running.started)
            return counts

    assert asyncio.run(work()) == [1, 2, 3, 6]


def test_a_haproxy_that_a_reload_has_displaced_may_end(monkeypatch):
    """The one that displaced it is started again when that dies."""

    async def work() -> list[int]:
        async with managed(monkeypatch) as (manager, running):
            displaced = running._proc
            await manager._reload_haproxy()
            counts = [running.started]
            displaced.kill()
            await displaced.wait()
            await until(lambda: displaced not in manager._watched)
            counts.append(running.started)
            current = running._proc
            current.kill()
            await until(lambda: running._proc is not current)
            return [*counts, running.started]

    assert asyncio.run(work()) == [2, 2, 3]


def test_a_manager_that_is_to_end_starts_no_haproxy(monkeypatch):
    """It would outlive the manager, and hold the port."""

    async def work() -> tuple[int, Any]:
        async with managed(monkeypatch) as (manager, running):
            await manager.shutdown()
            await until(lambda: not manager._watched)
            return running.started, running._proc

    assert asyncio.run(work()) == (1, None)


def test_ray_still_has_what_the_manager_relies_on():
    """Its reloads go through one method and one lock; a start that is over is a task."""
    source = inspect.getsource(haproxy)
    assert "self._haproxy_start_task = self.event_loop.create_task(self._haproxy.start())" in source
    assert source.count("await self._haproxy.reload()") == 1
    assert "async with self._reload_lock:\n            await self._haproxy_start_task" in source
    for name in ("shutdown", "update_draining", "_reload_haproxy"):
        assert inspect.iscoroutinefunction(getattr(HAProxyManager.__bases__[0], name)), name


def test_the_controller_starts_our_manager(monkeypatch):
    """By the name of Ray's, which is that of its process; `drain` looks for it. Ray exports a class
    under the name that it was written with: another one's would be started instead.
    """
    monkeypatch.setattr(controller, "HAProxyManager", controller.HAProxyManager)
    replaced: list[bool] = []
    monkeypatch.setattr(serve_proxies, "replace_the_dead_at_once", lambda: replaced.append(True))
    path = to_mapping(SERVING)["RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH"]
    module, _, name = path.partition(":")
    getattr(importlib.import_module(module), name)()
    assert replaced
    made = controller.HAProxyManager.__ray_metadata__
    assert made.modified_class.__ray_actor_class__ is HAProxyManager
    assert made.class_name.split(".")[-1] == haproxy.HAProxyManager.__ray_metadata__.class_name
    assert made.num_cpus == 0


@pytest.mark.parametrize(("error", "found"), CHECKED)
def test_a_dead_proxy_is_replaced_at_once_and_a_busy_one_later(monkeypatch, error, found):
    """Three checks that fail replace a process that lives: the check's answer may be late, and
    replacing HAProxy's manager cuts the calls in HAProxy.
    """
    wrapper_class, state_class = proxy_state.ActorProxyWrapper, proxy_state.ProxyState
    monkeypatch.setattr(wrapper_class, "is_healthy", wrapper_class.is_healthy)
    monkeypatch.setattr(state_class, "try_update_status", state_class.try_update_status)
    serve_proxies.replace_the_dead_at_once()
    wrapper: Any = wrapper_class.__new__(wrapper_class)
    wrapper._node_id, wrapper._health_check_future = "node", None
    state: Any = state_class.__new__(state_class)
    state._actor_proxy_wrapper, state._actor_name = wrapper, "proxy"
    state._consecutive_health_check_failures, state._status = 0, ProxyStatus.HEALTHY
    monkeypatch.setattr(
        state_class, "_set_status", lambda state, status: setattr(state, "_status", status)
    )

    async def check() -> str:
        wrapper._health_check_future = asyncio.get_running_loop().create_future()
        if error is None:
            wrapper._health_check_future.set_result(True)
        else:
            wrapper._health_check_future.set_exception(error)
        is_healthy = wrapper.is_healthy(10)
        state.try_update_status(state._status if is_healthy else ProxyStatus.UNHEALTHY)
        return str(state._status.value)

    assert [asyncio.run(check()) for _ in found] == found


@pytest.mark.parametrize("longest_s", [0, 120, 3605])
def test_a_proxy_has_as_long_to_answer_as_ray_gives_it(longest_s):
    """Only the question comes more often: a machine that is busy for seconds loses no proxy. Nor
    does a cluster that ends: its manager is suspended for as long as calls may take, and HAProxy,
    which has them, would go with it.
    """
    variables = to_mapping(SERVING)
    assert "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S" not in variables
    assert constants.PROXY_HEALTH_CHECK_TIMEOUT_S >= 10
    timeout_s = int(proxy_patience(longest_s).value)
    assert timeout_s >= 10
    assert timeout_s * constants.PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD > longest_s
    period_s = float(variables["RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"])
    assert period_s + float(variables["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"]) < 1

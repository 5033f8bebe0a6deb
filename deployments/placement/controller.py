"""The placement controller at work: it asks Ray what there is and ``placement`` what to do, and
gives the orders, in threads so that its event loop never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

from ray import serve
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RaySystemError

from deployments.control.declarations import FunctionDeclaration
from deployments.control.orders import ProcessOrders
from deployments.control.process_reports import ProcessReport, ReplicaReport
from deployments.ingress.wake_signal import remove_signal
from deployments.placement.order_ledger import RayOrder
from deployments.placement.placement import Placement
from deployments.ray_support.ray_internals import (
    HeadStore,
    application_details,
    begin_delete,
    free_by_node,
    prestart_workers,
    with_version,
)
from deployments.ray_support.serve_status import AppState, deployment_states
from deployments.scaling.replica_policy import max_free_on_a_node
from deployments.scaling.tier_policy import Thresholds
from deployments.serving.application import build_application, promoted_application

logger = logging.getLogger("wakeful.placement")

MOVING_TICK_S: Final = 0.1
"""Between two ticks while a transition is under way; a promotion takes two to three seconds."""

TICK_S: Final = 0.5
"""Between two ticks else; reports come once a second."""

STATUS_S: Final = 3.0
"""How old Ray's status may be while no transition is under way: it costs Serve's controller a few
milliseconds.
"""

ORDER_S: Final = 60.0
"""An order that Ray has not taken for so long is reported. It is waited for to its end, as Ray may
take it at any time, and no other order about that function is given before."""

ANSWER_S: Final = 10.0
"""Longest wait for Ray's status, and for a write of what must be known after a restart; what was
known before holds meanwhile.
"""

HELD_S: Final = 10.0
"""Longest wait for orders under way about functions that `up` is about to deploy itself."""

LOST: Final = (
    RayActorError,
    ActorUnavailableError,
    GetTimeoutError,
    RaySystemError,
    TimeoutError,
    ConnectionError,
)
"""Errors after which it is not known what became of an order."""

THREADS: Final = 12
"""Orders under way at a time, and four questions; more wait."""

_DEPLOYING: Final = threading.Lock()
"""Held while an application is built and given to Ray, 10 to 50 ms. Ray pickles the scaling policy
and the request router of an application with their modules in a set of the process
(``cloudpickle.register_pickle_by_value``), and takes them out again: of two threads at once, the
second finds its module gone and raises ``ValueError`` (two promoted functions in one ``up``: 6 of 6
were refused).
"""


class PlacementController:
    """Decides where functions are served, and gives the orders for it. Lives in the catalogue's
    process until closed; every method is called on its event loop.

    Args:
        name: the application that it lives in; replicas that it deploys report there.
        spares: worker processes kept started for replicas to come.
        store: where it writes what must be known after a restart.
        persisted: what it wrote there before a restart.
        calls: how it calls Ray and the store; it closes them.

    Mutable state: ``_apps`` and ``_apps_at`` (Ray's status, and when it was asked for), ``_orders``
    (tasks of the orders under way), ``_deleting`` (names of applications that were ordered to be
    deleted, until they are), ``_written`` (``placement.changes`` of the last write), ``_replicas``
    (ids of those that have reported).
    """

    def __init__(
        self,
        name: str,
        thresholds: Thresholds,
        spares: int,
        store: PersistedState,
        persisted: dict[str, Any],
        calls: RayCalls,
    ) -> None:
        self.placement = Placement(thresholds, persisted)
        self._store = store
        self._written = 0
        self._calls = calls
        self._deleting: set[str] = set()
        self._pool = PrestartPool(spares)
        self._name = name
        self._apps: dict[str, AppState] = {}
        self._apps_at = 0.0
        self._orders: set[asyncio.Task[None]] = set()
        self._replicas: deque[str] = deque(maxlen=1000)
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="placement")

    @property
    def is_healthy(self) -> bool:
        """Whether it still decides."""
        return not self._task.done()

    async def declare(
        self, declarations: Iterable[FunctionDeclaration], held: Iterable[str]
    ) -> None:
        """Takes other declared functions. Returns when no order is under way about those that `up`
        deploys itself (``held``).
        """
        self._start(self.placement.declare(declarations, time.monotonic(), held))
        self._apps_at = 0.0
        self._changed.set()
        until = time.monotonic() + HELD_S
        while self.placement.has_order_for_held and time.monotonic() < until:
            await asyncio.sleep(MOVING_TICK_S)

    def notify_changed(self) -> None:
        """Something is to be decided before the next report."""
        self._changed.set()

    async def receive_report(self, report: ProcessReport) -> ProcessOrders:
        """Takes a report; the answer is what that process is to do."""
        orders: ProcessOrders
        if isinstance(report, ReplicaReport):
            if report.id not in self._replicas:
                self._replicas.append(report.id)
                self._pool.on_worker_used(report.function.loaded_at, time.time())
            orders = self.placement.receive_replica_report(report, time.monotonic(), time.time())
        else:
            orders = self.placement.receive_host_report(report, time.monotonic(), time.time())
        self._changed.set()
        await self.persist()  # the process forgets the crashes that it has reported
        return orders

    @property
    def known_apps(self) -> dict[str, AppState]:
        """Ray's applications by name, at the last status."""
        return self._apps

    async def fetch_apps(self, max_age_s: float) -> dict[str, AppState]:
        """Ray's applications by name, as they were at most ``max_age_s`` ago.

        Raises:
            TimeoutError: Ray does not answer.
        """
        if time.monotonic() - self._apps_at > max_age_s:
            asked_at, apps = await self._calls.ask("status", _fetch_apps, ANSWER_S)
            if asked_at > self._apps_at:  # a later question may have been answered sooner
                self._apps, self._apps_at = apps, asked_at
        return self._apps

    async def latest_apps(self, max_age_s: float) -> dict[str, AppState]:
        """The same; while Ray does not answer, as they were before."""
        with contextlib.suppress(Exception):
            await self.fetch_apps(max_age_s)
        return self._apps

    async def close(self) -> None:
        """Decides nothing more; orders under way are left to Ray. Idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._calls.close()

    async def _run(self) -> None:
        while True:
            is_moving = self.placement.is_moving
            try:
                await self._tick(0.0 if is_moving else STATUS_S)
            except Exception:  # Serve's controller may be restarting; the next tick finds it
                logger.warning("placement got no answer from Ray", exc_info=True)
            if is_moving:
                await asyncio.sleep(MOVING_TICK_S)
                continue
            self._changed.clear()
            await asyncio.sleep(TICK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await self._changed.wait()

    async def _tick(self, max_age_s: float) -> None:
        apps = await self.fetch_apps(max_age_s)
        asked_at = self._apps_at
        await self._remove_signals(apps)
        await self._replace_workers()
        free = {}
        if self.placement.hosts:
            free = max_free_on_a_node(await self._calls.ask("free", free_by_node, ANSWER_S))
        now, wall = time.monotonic(), time.time()
        self._start(self.placement.next_orders(now, wall, apps, asked_at, free))

    async def _replace_workers(self) -> None:
        missing = self._pool.take_missing(time.time())
        if missing:
            await self._calls.ask(
                "workers", lambda: prestart_workers(missing, int(KEEP_ALIVE_S)), ANSWER_S
            )

    async def _remove_signals(self, apps: Mapping[str, AppState]) -> None:
        """Calls that wait for an application that is gone go to the process that answers now."""
        gone = self._deleting - apps.keys()
        self._deleting -= gone
        if gone:
            await self._calls.ask("signals", lambda: _remove_signals_of(gone), ANSWER_S)

    async def persist(self) -> None:
        """Writes what must be known after a restart.

        Raises:
            TimeoutError: it is not written, yet.
        """
        wanted = self.placement.changes
        while self._written < wanted:  # what is under way may be of an earlier state
            changes, data = self.placement.changes, self.placement.persisted
            self._written = await self._calls.ask(
                "write", functools.partial(self._write, data, changes), ANSWER_S
            )

    def _write(self, data: dict[str, Any], changes: int) -> int:
        """Writes this; runs in a thread, one at a time: a late one would take the place of a newer.
        Returns ``changes``, which it is of.
        """
        self._store.write(data)
        return changes

    def _start(self, orders: Iterable[RayOrder]) -> None:
        for order in orders:
            declaration = None
            if order.kind == "deploy":
                declaration = self.placement.functions[order.name].declaration
            task = asyncio.get_running_loop().create_task(
                self._give(order, declaration), name=f"{order.kind} {order.name}"
            )
            self._orders.add(task)
            task.add_done_callback(self._orders.discard)

    async def _give(self, order: RayOrder, declaration: FunctionDeclaration | None) -> None:
        error, is_lost = "", False
        try:
            await self.persist()
            call = self._calls.begin(f"order {order.name}", lambda: self._call(order, declaration))
            (self._deleting.add if order.kind == "delete" else self._deleting.discard)(order.name)
            while not (await asyncio.wait((call,), timeout=ORDER_S))[0]:
                logger.warning(
                    "Ray has not taken the order to %s %s for another %g s",
                    order.kind,
                    order.name,
                    ORDER_S,
                )
                why = f"Ray has not taken the order to {order.kind} it yet"
                self.placement.on_order_late(order.name, why, time.time())
            call.result()
        except Exception as failed:
            logger.warning("%s of %s failed", order.kind, order.name, exc_info=True)
            error, is_lost = f"{type(failed).__name__}: {failed}", isinstance(failed, LOST)
        self._apps_at = 0.0
        now, wall = time.monotonic(), time.time()
        self._start(self.placement.on_order_done(order, error, now, wall, is_lost=is_lost))

    def _call(self, order: RayOrder, declaration: FunctionDeclaration | None) -> None:
        """Gives the order to Ray; runs in a thread."""
        if declaration is None:
            begin_delete(order.name)  # the next ticks see it go
        else:
            deploy_application(order, declaration, self._name)


def deploy_application(order: RayOrder, declaration: FunctionDeclaration, owner: str) -> None:
    """Deploys a function's application, one at a time in a process (``_DEPLOYING``). Blocking, for
    as long as Ray takes to take it.

    Args:
        owner: the application of the placement controller.
    """
    spec = declaration.spec
    with _DEPLOYING:
        built = (
            build_application(spec, owner=owner)
            if declaration.is_always_own
            else promoted_application(spec, owner=owner, why=order.why)
        )
        target = serve.RunTarget(
            target=with_version(built, declaration.version),
            name=order.name,
            route_prefix=declaration.url if order.routed else None,
        )
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )


def _remove_signals_of(names: Iterable[str]) -> None:
    for name in names:
        remove_signal(name)


def _fetch_apps() -> tuple[float, dict[str, AppState]]:
    """When Ray was asked, and its applications by name."""
    asked_at = time.monotonic()
    return asked_at, {app.name: app for app in deployment_states(application_details())}


KEEP_ALIVE_S: Final = 3600.0
"""How long Ray keeps an unused process; a new one is asked for a little before."""

START_S: Final = 1.5
"""From asking for a process until it can be used, on two cores."""

REPLACE_AFTER_S: Final = 3.0
"""From a replica's start until its process is replaced: that takes a second of a core, which the
replica's first calls need.
"""


class PrestartPool:
    """Decides how many worker processes to start ahead, and when: a replica is ready a second
    sooner in one. Counts the unused ones. Times are seconds since the epoch, as replicas report
    their start.

    Args:
        count: unused processes to have; 0 keeps none.

    Mutable state: ``_ready`` (from when each unused process can be used), ``_replace_at`` (when
    each is to be asked for), ``_until`` (when Ray ends the unused ones).
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._ready: list[float] = []
        self._replace_at: list[float] = []
        self._until = 0.0

    def on_worker_used(self, began: float, now: float) -> None:
        """A replica began then; if an unused process was ready, the replica took it."""
        ready = [at for at in self._ready if at <= began]
        if ready:
            self._ready.remove(min(ready))
            self._replace_at.append(now + REPLACE_AFTER_S)

    def take_missing(self, now: float) -> int:
        """How many processes to ask for now; they count as asked for."""
        if now >= self._until:
            self._until, self._replace_at = now + KEEP_ALIVE_S - 60, []
            self._ready = [now + START_S] * self._count
            return self._count
        due = [at for at in self._replace_at if at <= now]
        self._replace_at = [at for at in self._replace_at if at > now]
        self._ready += [now + START_S] * len(due)
        return len(due)


KEY: Final = "wakeful-placement-"

CAPTURES_KEY: Final = "wakeful-captures-"


class PersistedState:
    """What a placement controller must know again after a restart, in the memory of Ray's head: it
    lives as long as the cluster does. Its calls block.

    Args:
        controller: the application that the controller lives in.
        key: of what it is, ``KEY`` or ``CAPTURES_KEY`` (``captured_calls``).
    """

    def __init__(self, controller: str, key: str = KEY) -> None:
        self._controller, self._key = controller, key + controller

    def read(self) -> dict[str, Any]:
        """What was written last; empty before that."""
        text = HeadStore.get(self._key)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def write(self, data: dict[str, Any]) -> None:
        """Replaces what was written before."""
        HeadStore.put(self._key, json.dumps(data))

    def drop(self) -> None:
        """The controller is gone, with all that it deployed, and so is all that it persisted."""
        for key in (KEY, CAPTURES_KEY):
            HeadStore.drop(key + self._controller)


class RayCalls:
    """Blocking calls to Ray of one event loop, in threads of their own and with a limit.

    A Serve controller that does not answer (it was stopped, or restarts) must not take the threads
    of the event loop's own pool, which loads and unloads use. A thread cannot be ended, so a late
    call goes on; the same question meanwhile waits for it, and starts no other call.

    Args:
        pool: what runs them; by default ``THREADS`` at a time, and more wait. The calls own it.

    Mutable state: ``_under_way``, by key, the calls that have not ended.
    """

    def __init__(self, pool: Executor | None = None) -> None:
        self._pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="ray-calls")
        self._under_way: dict[str, asyncio.Future[Any]] = {}

    def begin(self, key: str, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """The call of this key that is under way, or else this one, started; wait for it with a
        ``shield``.
        """
        future = self._under_way.get(key)
        if future is None:
            future = self._under_way[key] = asyncio.get_running_loop().run_in_executor(
                self._pool, call
            )
            future.add_done_callback(lambda done: self._on_ended(key, done))
        return future

    async def ask(self, key: str, call: Callable[[], Any], limit_s: float) -> Any:
        """Returns what the call returns.

        Raises:
            TimeoutError: it takes longer; it goes on.
            Exception: what it raises.
        """
        return await asyncio.wait_for(asyncio.shield(self.begin(key, call)), limit_s)

    def close(self) -> None:
        """Starts no call any more; those under way go on. Idempotent."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _on_ended(self, key: str, done: asyncio.Future[Any]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # retrieved, so that asyncio does not warn of it

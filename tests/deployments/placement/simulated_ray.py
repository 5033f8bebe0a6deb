"""What the placement controller sees of the machine in a simulated cluster: a clock that jumps from
timer to timer, threads that wait for no one, Ray Serve's orders, and the store.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from deployments.placement import controller
from deployments.placement.controller import PersistedState
from deployments.ray_support.serve_status import AppState

START = 1000.0
"""What the clock begins with; the controller takes 0 for never."""


class SimulatedClock:
    """``time.monotonic`` of a story."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class JumpingSelector(selectors.DefaultSelector):
    """No wait takes time: the clock moves on to the next timer of the loop instead. There is
    nothing else to wait for: no files, no threads.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """At once."""
        assert timeout is not None, "nothing will ever happen"
        self._clock.now += max(0.0, timeout)
        return []


Returned = TypeVar("Returned")


def run_in_simulated_time(main: Callable[[], Coroutine[Any, Any, Returned]]) -> Returned:
    """What the coroutine returns, on an event loop whose seconds take no time."""
    clock = SimulatedClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock)
        with asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(JumpingSelector(clock))
        ) as runner:
            return runner.run(main())


class SimulatedThreads(Executor):
    """Threads of a process that calls Ray: each call is made at once, and returns when what it
    called answers. After the end of the process no answer reaches anyone.

    Mutable state: ``_answer`` (of the call that is being made, if it comes later), ``_under_way``.
    """

    def __init__(self) -> None:
        self._answer: Future[Any] | None = None
        self._under_way: list[Future[Any]] = []
        self._has_ended = False

    def submit(self, call: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Makes the call."""
        if self._has_ended:
            ended: Future[Any] = Future()
            ended.cancel()
            return ended
        self._answer = None
        returned = call(*args, **more)
        answer = self._answer
        if answer is None:
            answer = Future()
            answer.set_result(None)
        result: Future[Any] = Future()

        def end(answered: Future[Any]) -> None:
            if result.done():
                return
            if error := answered.exception():
                result.set_exception(error)
            else:
                value = answered.result()
                result.set_result(returned if value is None else value)

        answer.add_done_callback(end)
        self._under_way = [one for one in self._under_way if not one.done()]
        self._under_way.append(result)
        return result

    def wait(self) -> Callable[[Any], None]:
        """For what is called: the thread waits until the result of this is given a value, which is
        what the call returns; for None, that it does as it would. An exception is raised.
        """
        answer = self._answer = Future()

        def respond(value: Any) -> None:
            if answer.done():
                return
            if isinstance(value, Exception):
                answer.set_exception(value)
            else:
                answer.set_result(value)

        return respond

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The process has ended."""
        self._has_ended = True
        for one in self._under_way:
            one.cancel()


class SimulatedStore(PersistedState):
    """The memory of Ray's head.

    Args:
        put: takes what is written, and calls the second when it has it.
    """

    def __init__(
        self,
        threads: SimulatedThreads,
        put: Callable[[dict[str, Any], Callable[[Any], None]], None],
    ) -> None:
        super().__init__("default")
        self._threads = threads
        self._put = put

    def write(self, data: dict[str, Any]) -> None:
        """See ``PersistedState``."""
        self._put(data, self._threads.wait())


@dataclass(frozen=True)
class SimulatedTarget:
    """``serve.RunTarget``."""

    target: Any
    name: str
    route_prefix: str | None


class SimulatedServe:
    """``ray.serve`` and Ray's status, as the module of the controller knows them. No application is
    built: Ray pickles it, which takes longer than all the rest.

    Args:
        deploy: gets name, version, prefix and whether it is promoted, and what to call with the
            outcome.
        delete: gets a name, and the same.
        status: gets what to call with the time of the question and the applications.
    """

    RunTarget = SimulatedTarget

    def __init__(
        self,
        threads: Callable[[], SimulatedThreads],
        deploy: Callable[[str, str, str | None, bool, Callable[[Any], None]], None],
        delete: Callable[[str, Callable[[Any], None]], None],
        status: Callable[[Callable[[Any], None]], None],
    ) -> None:
        self._threads = threads
        self._deploy, self._delete, self._status = deploy, delete, status

    def run_many(self, targets: Sequence[SimulatedTarget], **waits: bool) -> None:
        """See ``serve.run_many``."""
        (one,) = targets
        assert not any(waits.values())
        is_promoted, version = one.target
        self._deploy(one.name, version, one.route_prefix, is_promoted, self._threads().wait())

    def delete(self, name: str) -> None:
        """See ``begin_delete``."""
        self._delete(name, self._threads().wait())

    def fetch_apps(self) -> tuple[float, dict[str, AppState]]:
        """In place of the controller's own."""
        self._status(self._threads().wait())
        return 0.0, {}  # it is not used: the answer comes later

    @contextmanager
    def installed(self, free: Mapping[str, float]) -> Iterator[None]:
        """Meanwhile every placement controller of this process has it for Ray."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(controller, "serve", self)
            patch.setattr(controller, "begin_delete", self.delete)
            patch.setattr(controller, "_fetch_apps", self.fetch_apps)
            patch.setattr(controller, "build_application", lambda spec, owner: False)
            patch.setattr(controller, "promoted_application", lambda spec, owner, why: True)
            patch.setattr(controller, "with_version", lambda built, version: (built, version))
            patch.setattr(controller, "free_by_node", lambda: [free])
            patch.setattr(controller, "prestart_workers", lambda count, keep_s: None)
            patch.setattr(controller, "remove_signal", lambda name: None)
            yield

"""Loads and unloads that an operator asks of a cluster, and how several at once go together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from deployments.control.process_reports import HostReport
from deployments.ingress import residency_signal
from deployments.placement.cluster_repository import ClusterRepository
from deployments.placement.placement import Placement
from deployments.ray_support.environment import MARK
from deployments.scaling.tier_policy import DEFAULT
from runtime.library.function_report import FunctionReport
from tests.deployments.placement.placing import declaration

PATIENCE_S = 30.0


def placed(**args: Any) -> tuple[Placement, ClusterRepository]:
    """A placement with one function, and what operators ask about it."""
    placement = Placement(DEFAULT)
    placement.declare([declaration(**args)], time.monotonic())
    controller: Any = SimpleNamespace(placement=placement, notify_changed=lambda: None)
    return placement, ClusterRepository(controller, None)  # type: ignore[arg-type]  # none is called


def report(placement: Placement, **functions: FunctionReport) -> Collection[str]:
    """What a host has loaded; which of it it is to release."""
    found = HostReport("h", functions=functions)
    return placement.receive_host_report(found, time.monotonic(), time.time()).release


async def until(is_so: Callable[[], bool]) -> None:
    """Some turns of the event loop later."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.001)


def test_an_unload_that_ends_leaves_that_of_another_operator(tmp_path: Path) -> None:
    """The one has given up, and the function is told to sleep for the other still."""

    async def story() -> None:
        placement, repository = placed()
        busy = FunctionReport(in_flight=1)
        assert report(placement, f=busy) == ()
        one, two = (asyncio.create_task(repository.unload("f")) for _ in range(2))
        await until(lambda: placement.kept.sleeping["f"] == 2)
        one.cancel()
        await until(one.done)
        assert report(placement, f=busy) == ("f",)
        assert not two.done()
        report(placement)
        async with asyncio.timeout(PATIENCE_S):
            await two
        assert report(placement, f=FunctionReport()) == ()
        assert not placement.kept.sleeping

    asyncio.run(story())


def test_policies_are_told_the_last_state_last(tmp_path, monkeypatch) -> None:
    """Though the operator left while a slow disk was told the one before."""
    monkeypatch.setenv(MARK, str(tmp_path))
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    set_sleeping = residency_signal.set_sleeping

    def set_slowly(names: Collection[str]) -> None:
        if names:
            begun.set()
            assert may_end.wait(PATIENCE_S)
        set_sleeping(names)
        if names:
            ended.set()

    monkeypatch.setattr(residency_signal, "set_sleeping", set_slowly)

    async def story() -> None:
        _, repository = placed(fixed=True)
        leaving = asyncio.create_task(repository.unload("f"))
        await until(begun.is_set)
        leaving.cancel()
        for _ in range(100):
            await asyncio.sleep(0.001)
        may_end.set()
        await until(ended.is_set)
        await until(leaving.done)
        assert leaving.cancelled()
        assert not residency_signal.is_to_sleep("f")

    asyncio.run(story())

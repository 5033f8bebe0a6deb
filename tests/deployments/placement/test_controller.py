"""The placement controller: what it writes, asks and orders, and in which order. Ray is a fake that
answers when the test says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.control.process_reports import HostReport
from deployments.placement import controller as module
from deployments.placement.controller import ORDER_S, PlacementController, RayCalls
from deployments.ray_support.serve_status import AppState
from deployments.scaling.tier_policy import DEFAULT
from tests.deployments.placement.placing import CRASH
from tests.deployments.placement.simulated import declarations, declared
from tests.deployments.placement.simulated_ray import (
    SimulatedServe,
    SimulatedStore,
    SimulatedThreads,
    run_in_simulated_time,
)


class Ray:
    """Says what came to it in ``seen``; answers at once, or with what a test puts in ``answers``.

    Attributes:
        held: what is under way, in order: the test calls each with its outcome.
        holds: kinds that are not answered at once.
    """

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.holds: set[str] = set()
        self.held: list[Any] = []
        self.apps: dict[str, AppState] = {}
        self.written: dict[str, Any] = {}
        self.asked_at: list[float] = []
        self.threads = SimulatedThreads()
        self.serve = SimulatedServe(
            lambda: self.threads,
            lambda *what: self._take(("deploy", *what[:-1]), what[-1]),
            lambda name, done: self._take(("delete", name), done),
            self._status,
        )
        self.store = SimulatedStore(self.threads, self._write)

    def controller(self, **persisted: Any) -> PlacementController:
        """One that has it for Ray."""
        return PlacementController(
            "catalogue", DEFAULT, 0, self.store, persisted, RayCalls(self.threads)
        )

    def _take(self, what: tuple[Any, ...], done: Any, value: Any = None) -> None:
        self.seen.append(what)
        if what[0] in self.holds:
            self.held.append(done)
        else:
            done(value)

    def _status(self, done: Any) -> None:
        asked_at = self.asked_at.pop(0) if self.asked_at else time.monotonic()
        self._take(("status",), done, (asked_at, dict(self.apps)))

    def _write(self, data: dict[str, Any], done: Any) -> None:
        self.written = data
        self._take(("write", data["ours"]), done)

    def orders(self) -> list[Any]:
        """What it was ordered, and what was written for it."""
        return [what for what in self.seen if what[0] != "status"]


@pytest.fixture
def ray() -> Iterator[Ray]:
    """For every controller of the test."""
    ray = Ray()
    with ray.serve.installed({"CPU": 4.0}):
        yield ray


def own(name: str, version: int = 0) -> Any:
    """A function that has always its own deployment."""
    return declared(name, version, fixed=True)


def app(name: str, state: str = "ready") -> dict[str, AppState]:
    """Ray has its application."""
    return {name: AppState(name, state, 1, deployments=("WakefulFunction",))}


async def give(controller: PlacementController, ray: Ray) -> None:
    """An order: what is promoted and declared by nothing is deleted."""
    ray.apps = app("f")
    await controller.declare([], [])
    await asyncio.sleep(2)


def test_what_must_be_known_is_written_before_an_order_is_given(ray):
    """And the order waits for it: a controller that dies between both finds its application."""

    async def story() -> None:
        ray.holds = {"write"}
        controller = ray.controller(ours=["f"], promoted=["f"], crashes={}, pinned=[])
        controller.placement.pin("g", is_pinned=True)  # something to write
        await give(controller, ray)
        assert ray.orders() == [("write", ["f"])]
        ray.holds.clear()
        ray.held.pop()(None)
        await asyncio.sleep(1)
        assert ray.orders() == [("write", ["f"]), ("delete", "f")]
        assert await controller.persist() is None
        assert ray.orders().count(("write", ["f"])) == 1  # nothing has changed since
        await controller.close()

    run_in_simulated_time(story)


def test_no_order_is_given_that_was_not_written_down(ray):
    """The store fails: that is the order's failure, and it is given again later."""

    async def story() -> None:
        ray.holds = {"write"}
        controller = ray.controller(ours=["f"], promoted=["f"], crashes={}, pinned=[])
        controller.placement.pin("g", is_pinned=True)
        await give(controller, ray)
        ray.holds.clear()
        ray.held.pop()(ConnectionError("no head"))
        await asyncio.sleep(1)
        assert ("delete", "f") not in ray.seen
        await asyncio.sleep(15)
        assert ray.orders()[-2:] == [("write", ["f"]), ("delete", "f")]
        await controller.close()

    run_in_simulated_time(story)


def test_a_late_write_does_not_replace_a_newer_one(ray):
    """It goes on after its time limit. What has changed since is written when it has ended, by one
    that waits for it, and by one alone.
    """

    async def story() -> None:
        ray.holds = {"write"}
        controller = ray.controller()
        controller.placement.pin("a", is_pinned=True)
        with pytest.raises(TimeoutError):
            await controller.persist()
        controller.placement.pin("b", is_pinned=True)
        later = [asyncio.ensure_future(controller.persist()) for _ in range(2)]
        await asyncio.sleep(1)
        assert ray.orders() == [("write", [])]
        assert ray.written["pinned"] == ["a"]
        ray.held.pop()(None)
        await asyncio.sleep(1)
        assert ray.orders() == [("write", [])] * 2
        assert ray.written["pinned"] == ["a", "b"]
        assert not any(one.done() for one in later)
        ray.held.pop()(None)
        await asyncio.gather(*later)
        await controller.persist()
        assert ray.orders() == [("write", [])] * 2
        await controller.close()

    run_in_simulated_time(story)


def test_a_late_status_does_not_replace_a_newer_one(ray):
    """What was asked for before is older, whenever it comes."""

    async def story() -> None:
        controller = ray.controller()
        await asyncio.sleep(1)
        ray.asked_at, ray.apps = [time.monotonic() + 5], app("new")
        assert (await controller.fetch_apps(-1)).keys() == {"new"}
        ray.asked_at, ray.apps = [time.monotonic() + 4], app("old")
        assert (await controller.fetch_apps(-10)).keys() == {"new"}
        assert controller.known_apps.keys() == {"new"}
        await controller.close()

    run_in_simulated_time(story)


def test_a_status_is_asked_for_once_however_many_wait_for_it(ray):
    """And while it is young enough not at all; after an order it is asked for anew."""

    async def story() -> None:
        ray.holds = {"status"}
        controller = ray.controller()
        waiting = [asyncio.ensure_future(controller.fetch_apps(1)) for _ in range(3)]
        await asyncio.sleep(1)
        assert ray.seen == [("status",)]
        ray.holds.clear()
        ray.held.pop()((time.monotonic(), app("f")))
        assert [(await one).keys() for one in waiting] == [{"f"}] * 3
        asked = len(ray.seen)
        await controller.fetch_apps(1)
        assert len(ray.seen) == asked
        await controller.close()

    run_in_simulated_time(story)


def test_the_last_status_holds_while_ray_does_not_answer(ray):
    """``latest_apps`` gives it after ten seconds, ``fetch_apps`` raises."""

    async def story() -> None:
        ray.apps = app("f")
        controller = ray.controller()
        await asyncio.sleep(1)
        ray.holds = {"status"}
        began = time.monotonic()
        assert (await controller.latest_apps(-1)).keys() == {"f"}
        assert time.monotonic() - began == pytest.approx(module.ANSWER_S, abs=0.1)
        with pytest.raises(TimeoutError):
            await controller.fetch_apps(-1)
        assert ray.seen.count(("status",)) == 2  # the one that hangs, and the one before
        await controller.close()

    run_in_simulated_time(story)


def test_what_a_report_tells_is_written_before_it_is_answered(ray):
    """The process forgets the crashes that it has reported."""

    async def story() -> None:
        controller = ray.controller()
        await controller.declare(declarations([declared("f", 0)]), [])
        ray.holds = {"write"}
        answer = asyncio.ensure_future(controller.receive_report(HostReport("h", crashes=(CRASH,))))
        await asyncio.sleep(1)
        assert not answer.done()
        assert [one["how"] for one in ray.written["crashes"]["f"]["crashes"]] == [
            "it brought down process 7 (Segmentation fault)"
        ]
        ray.held.pop()(None)
        await answer
        await controller.close()

    run_in_simulated_time(story)


def test_up_waits_for_orders_under_way_about_what_it_deploys_itself(ray):
    """For ten seconds at most: two orders about one application would undo each other."""

    async def story() -> None:
        ray.apps, ray.holds = app("f"), {"delete"}
        controller = ray.controller(ours=["f"], promoted=["f"], crashes={}, pinned=[])
        await controller.declare([], [])
        await asyncio.sleep(2)
        declaring = asyncio.ensure_future(
            controller.declare(declarations([declared("f", 0)]), ["f"])
        )
        await asyncio.sleep(module.HELD_S - 1)
        assert not declaring.done()
        ray.held.pop()(None)
        await asyncio.sleep(0.2)
        assert declaring.done()
        ray.holds.clear()
        await controller.close()

    run_in_simulated_time(story)


def test_an_order_that_ray_does_not_take_is_reported_and_waited_for(ray):
    """No other is given about that function before it ends."""

    async def story() -> None:
        ray.apps, ray.holds = app("f"), {"deploy"}
        controller = ray.controller(ours=["f"], crashes={}, pinned=[])
        await controller.declare(declarations([own("f")]), [])
        ray.apps = {}
        await asyncio.sleep(155)  # it is lost, and is deployed again
        state = controller.placement.functions["f"]
        await asyncio.sleep(3 * ORDER_S)
        assert ray.seen.count(("deploy", "f", "f-0", "/v2/models/f", False)) == 1
        assert state.decisions[-1].why == "Ray has not taken the order to deploy it yet"
        await controller.close()

    run_in_simulated_time(story)


def test_calls_that_wait_for_an_application_go_on_when_it_is_gone(ray, monkeypatch):
    """Its wake signal is removed then, and not while Ray has it."""
    removed: list[str] = []
    monkeypatch.setattr(module, "remove_signal", removed.append)

    async def story() -> None:
        controller = ray.controller(ours=["f"], promoted=["f"], crashes={}, pinned=[])
        await give(controller, ray)
        assert ("delete", "f") in ray.seen
        assert removed == []
        ray.apps = {}
        await asyncio.sleep(5)
        assert removed == ["f"]
        await controller.close()

    run_in_simulated_time(story)


def test_what_follows_from_an_order_is_ordered_too(ray):
    """Ray refuses the deployment of a function that crashed a host: what there is of it goes."""

    async def story() -> None:
        ray.holds = {"deploy"}
        controller = ray.controller()
        await controller.declare(declarations([declared("f", 0)]), [])
        await controller.receive_report(HostReport("h", crashes=(CRASH,)))
        await asyncio.sleep(1)
        assert ray.orders()[-1] == ("deploy", "f", "f-0", None, True)
        ray.held.pop()(ValueError("it is not taken"))
        await asyncio.sleep(0.05)
        assert ray.orders()[-1] == ("delete", "f")
        assert controller.placement.functions["f"].decisions[-1].why == (
            "stays in the host: its own deployment did not start: ValueError: it is not taken"
        )
        await controller.close()

    run_in_simulated_time(story)

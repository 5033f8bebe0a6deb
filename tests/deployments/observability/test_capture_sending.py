"""Recorded calls on their way to the catalogue, whose end is a fake."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ray.serve.exceptions import RayServeException

from deployments.control.declarations import FunctionDeclaration
from deployments.observability import capture_sending
from deployments.observability.capture_sending import CaptureBatch, CaptureSender
from deployments.placement import captured_calls
from deployments.placement.captured_calls import CapturedCalls
from runtime.library.capture.captures import Order
from runtime.library.capture.reordering import TimedLine
from runtime.settings import Settings
from runtime.system.telemetry.counters import ProcessCounters


class Heartbeat:
    """Asks a catalogue that takes, or fails so often before."""

    def __init__(self) -> None:
        self.taken: list[CaptureBatch] = []
        self.failures = 0
        self.asked = 0

    async def ask(self, method: str, batch: CaptureBatch) -> None:
        """As of the real one."""
        assert method == "receive_captured"
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise RayServeException("it is starting")
        self.taken.append(pickle.loads(pickle.dumps(batch)))


def line(number: int, size: int = 0) -> TimedLine:
    """Of one call."""
    return TimedLine(float(number), b'{"n":%d}' % number + b" " * size + b"\n")


def sending(
    work: Callable[[CaptureSender, Heartbeat, ProcessCounters], Awaitable[None]],
) -> Heartbeat:
    """What the catalogue has got once the process has ended."""
    heartbeat, counters = Heartbeat(), ProcessCounters()

    async def main() -> None:
        sender = CaptureSender("r1", lambda: heartbeat, counters)  # type: ignore[arg-type, return-value]
        await work(sender, heartbeat, counters)
        await sender.close()

    asyncio.run(main())
    return heartbeat


@pytest.fixture(autouse=True)
def _at_once(monkeypatch) -> None:
    """No pause between two sends."""
    monkeypatch.setattr(capture_sending, "SEND_S", 0.0)


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop run."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0)


def test_lines_are_sent_with_their_functions():
    """From the writer's thread, in their order."""

    async def work(sender: CaptureSender, heartbeat: Heartbeat, _: ProcessCounters) -> None:
        await asyncio.to_thread(sender.add, "f", [line(1), line(2)])
        await asyncio.to_thread(sender.add, "g", [line(3)])
        await until(
            lambda: sum(len(of) for one in heartbeat.taken for of in one.lines.values()) == 3
        )

    taken = sending(work).taken
    assert [one.source for one in taken] == ["r1"] * len(taken)
    lines = [entry for one in taken for entry in one.lines.get("f", ())]
    assert lines == [line(1), line(2)]


def test_nothing_is_asked_where_nothing_is_recorded():
    """A process that is not captured costs the catalogue nothing."""

    async def work(sender: CaptureSender, heartbeat: Heartbeat, _: ProcessCounters) -> None:
        await asyncio.sleep(0)

    assert sending(work).asked == 0


def test_what_was_not_taken_is_sent_again_with_its_number():
    """So that the catalogue knows it, if it was taken after all."""

    async def work(sender: CaptureSender, heartbeat: Heartbeat, _: ProcessCounters) -> None:
        heartbeat.failures = 3
        await asyncio.to_thread(sender.add, "f", [line(1)])
        await until(lambda: len(heartbeat.taken) == 1)
        await asyncio.to_thread(sender.add, "f", [line(2)])
        await until(lambda: len(heartbeat.taken) == 2)

    heartbeat = sending(work)
    assert [one.number for one in heartbeat.taken] == [1, 2]
    assert heartbeat.asked == 5


def test_what_waits_is_bounded_and_the_rest_is_counted(monkeypatch):
    """The catalogue is told how many are lost; one send has a part of what waits."""
    monkeypatch.setattr(capture_sending, "MAX_HELD_BYTES", 1000)
    monkeypatch.setattr(capture_sending, "MAX_SENT_BYTES", 400)

    async def work(sender: CaptureSender, heartbeat: Heartbeat, counters: ProcessCounters) -> None:
        sender.add("f", [line(number, 92) for number in range(10, 25)])
        assert counters.of("f").capture_lost == 6
        await until(lambda: sum(len(one.lines["f"]) for one in heartbeat.taken) == 9)

    taken = sending(work).taken
    assert [len(one.lines["f"]) for one in taken] == [3, 3, 3]
    assert taken[0].lost == {"f": 6}


def test_the_end_sends_what_is_left_and_waits_for_no_catalogue():
    """Once each, if it answers."""

    async def work(sender: CaptureSender, heartbeat: Heartbeat, _: ProcessCounters) -> None:
        sender.add("f", [line(1)])

    assert len(sending(work).taken) == 1

    async def without(sender: CaptureSender, heartbeat: Heartbeat, _: ProcessCounters) -> None:
        heartbeat.failures = 10**9
        sender.add("f", [line(1)])

    assert sending(without).taken == []


def declaration(name: str, **args: Any) -> FunctionDeclaration:
    """As `up` sends it."""
    return FunctionDeclaration(name, f"/{name}", args, is_always_own=False, version="v1")


class Store:
    """Keeps, as text, what is to be known after a restart."""

    def __init__(self) -> None:
        self.text = "{}"
        self.writes = 0

    def read(self) -> dict[str, Any]:
        """As of the real one."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    def write(self, data: dict[str, Any]) -> None:
        """Likewise."""
        self.text = json.dumps(data)
        self.writes += 1


def catalogue(folder: Path, store: Store) -> CapturedCalls:
    """The captures of one that has just started."""
    settings = Settings(root=folder, models=folder, captures=folder / "captures")
    return CapturedCalls(settings, store, store.read())  # type: ignore[arg-type]  # as much as is used


def test_an_operators_order_goes_on_after_a_restart_of_the_catalogue(tmp_path):
    """Until its time, or until the operator or the declarations end it."""
    both = [declaration("f"), declaration("g")]

    async def work() -> None:
        store = Store()
        captured = catalogue(tmp_path, store)
        await captured.declare(both)
        assert store.writes == 0
        await captured.start("f", Order(0.5, 4e9))
        await captured.start("g", Order(1.0, time.time() + 0.05))
        captured.close()
        await asyncio.sleep(0.1)

        again = catalogue(tmp_path, store)
        assert again.orders() == {}  # nothing is declared yet
        await again.declare(both)
        assert again.orders() == {"f": Order(0.5, 4e9)}
        assert again.captures.recorder_of("f") is not None
        writes = store.writes
        await again.declare(both)
        assert again.orders() == {"f": Order(0.5, 4e9)}
        assert store.writes == writes  # nothing is written for nothing
        await again.declare([declaration("g")])
        await again.declare(both)
        assert again.orders() == {}
        assert store.read() == {}
        await again.start("f", Order(1.0, 4e9))
        await again.stop("f")
        again.close()

        last = catalogue(tmp_path, store)
        await last.declare(both)
        assert last.orders() == {}
        last.close()

    asyncio.run(work())


def test_an_order_that_is_written_late_does_not_outlive_its_end(tmp_path, monkeypatch):
    """The store took it after its time limit, when an operator had ended it: that is written too."""
    monkeypatch.setattr(captured_calls, "ANSWER_S", 0.02)
    may_write = threading.Event()

    class LateStore(Store):
        def write(self, data: dict[str, Any]) -> None:
            assert may_write.wait(30)
            super().write(data)

    async def work() -> None:
        store = LateStore()
        captured = catalogue(tmp_path, store)
        await captured.declare([declaration("f")])
        with pytest.raises(TimeoutError):
            await captured.start("f", Order(1.0, 4e9))
        with pytest.raises(TimeoutError):
            await captured.stop("f")
        monkeypatch.setattr(captured_calls, "ANSWER_S", 30.0)
        may_write.set()
        await captured.declare([declaration("f")])
        assert store.read() == captured.orders() == {}
        assert store.writes == 2
        captured.close()

    asyncio.run(work())


def test_the_catalogue_writes_one_file_in_the_order_of_arrival(tmp_path):
    """From all processes; a batch that comes twice is kept once; losses are told."""

    async def work() -> None:
        captured = catalogue(tmp_path, Store())
        await captured.declare(
            [declaration("f", capture={"rate": 1}), declaration("f.s", part_of=1)]
        )
        first = CaptureBatch("a", 1, {"f": [line(3), line(5)]}, {"f": 2})
        for batch in (
            first,
            CaptureBatch("b", 1, {"f": [line(1), line(4)], "gone": [line(9)]}, {"f": 1}),
            first,
            CaptureBatch("a", 2, {"f": [line(2)]}, {"f": 4}),
        ):
            captured.receive(batch)
        await captured.start("f", Order(0.5, 4e9))
        assert captured.orders() == captured.orders("f") == {"f": Order(0.5, 4e9)}
        assert captured.orders("g") == {}
        await asyncio.to_thread(captured.close)
        status = await captured.status("f")
        assert (status.calls, status.lost, status.ends_with_process) == (5, 5, False)
        assert 'wakeful_captured_calls_total{function="f"} 5' in captured.metrics()

    asyncio.run(work())
    head, *lines = (tmp_path / "captures" / "f.jsonl").read_text().splitlines()
    assert '"version":"v1"' in head
    assert [one.strip() for one in lines] == [f'{{"n":{n}}}' for n in range(1, 6)]

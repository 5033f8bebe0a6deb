"""A machine of three goes while the other two are called: pulled off the network, killed, or told to leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import undisturbed
from loadtests.cluster.fleet import PORT, Fleet, fleet
from loadtests.cluster.machines import Machine
from loadtests.cluster.requests import Asked, declared, sleeper
from loadtests.faults.row import Row
from loadtests.ledger.book import Book, p
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import End

MACHINES: Final = 3
ROOM: Final = {"WAKEFUL_LOGICAL_CPUS_PER_CORE": "16", "WAKEFUL_HOSTS": "1"}
CALLERS: Final = 6
"""Of each machine that stays, on the function with replicas of its own; as many as a third of them on those that sleep."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A way to lose a machine.

    Attributes:
        words: for the table.
        lose: does it; may take its time.
    """

    words: str
    lose: Callable[[Fleet, Machine], None]


LOSSES: Final[Mapping[str, Loss]] = {
    "unplugged": Loss("a machine of three is pulled off the network", lambda _, machine: machine.unplug()),
    "killed": Loss("all processes of a machine of three are killed", lambda _, machine: machine.kill()),
    "left": Loss("`wakeful down` on a machine of three", lambda served, machine: served.wakeful(machine, "down")),
}


def lost(name: str, folder: Path, seconds: float, say: Callable[[str], None]) -> Row:
    """One loss, half way through so many seconds of load on the other two machines."""
    loss = LOSSES[name]
    first = declare.write(folder / f"{name}-first.yaml", declared(0))
    whole = declare.write(folder / f"{name}.yaml", declared(MACHINES))
    keep = folder / name
    keep.mkdir(exist_ok=True)
    with fleet(MACHINES, first, folder / f"{name}.log", ROOM, keep=keep) as served, undisturbed():
        served.wait_for_hosts(sleeper(0), MACHINES)
        served.up(whole)  # replicas that start now are spread; Ray Serve moves none for a machine that joins
        for machine in served.machines:
            served.wait_for_http(machine)
        say(f"{MACHINES} machines answer")
        return asyncio.run(_measured(served, loss, seconds, say))


async def _measured(served: Fleet, loss: Loss, seconds: float, say: Callable[[str], None]) -> Row:
    book, victim = Book(), served.others[-1]
    entries = [machine for machine in served.machines if machine is not victim]
    asked = {(machine.name, rare): Asked(f"{machine.name}-{rare}", rare=rare) for machine in entries for rare in (False, True)}
    until = time.time() + seconds
    async with asyncio.TaskGroup() as group:
        for machine in entries:
            for rare, callers in ((False, CALLERS), (True, CALLERS // 3)):
                group.create_task(_call(book, machine, asked[machine.name, rare], callers, until))
        await asyncio.sleep(seconds / 2)
        at = time.time()
        say(f"{victim.name} goes")
        group.create_task(asyncio.to_thread(loss.lose, served, victim))
        forgotten = group.create_task(asyncio.to_thread(served.wait_for_hosts, sleeper(0), MACHINES - 1))
    after = book.between(End.RIGHT, at)
    before = book.between(End.RIGHT, until=at)
    return Row(
        loss.words,
        book.verdict(),
        (
            *(
                f"{what} by machine: {_shares(served, [one for (_, rare), one in asked.items() if rare is is_rare])}"
                for what, is_rare in (("answers of `work`", False), ("of sleepers", True))
            ),
            f"p50 {p(before, 0.5) * 1e3:.0f} ms before, {p(after, 0.5) * 1e3:.0f} ms after; slowest {max(before, default=0):.2f} s before, "
            f"{max(after, default=0):.2f} s after",
            f"its host was forgotten after {forgotten.result():.1f} s",
        ),
    )


async def _call(book: Book, machine: Machine, asked: Asked, callers: int, until: float) -> None:
    async with Client(book, machine.address, PORT, asked) as client:
        await client.closed(callers, lambda: time.time() < until)


def _shares(served: Fleet, asked: Sequence[Asked]) -> str:
    return " ".join(f"{sum(one.answers.get(machine.name, 0) for one in asked):,}" for machine in served.machines)

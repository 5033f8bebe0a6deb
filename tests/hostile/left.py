"""``python -m tests.hostile.left``: what hostile requests leave in memory, process by process.

Each is sent until its process has what it keeps for such requests anyway, then a hundred times
more. What a process has grown by then may be what another request has left, or what the C library
has not given back; so one that leaves too much is sent a hundred times again, and what counts is
the least of all its tries: a leak is in each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from tests.deployments.projects import STAGES, Standing
from tests.hostile import targets
from tests.hostile.acts import ACTS
from tests.hostile.bodies import BODIES
from tests.hostile.exchanges import exchange
from tests.hostile.rows import ROWS
from tests.hostile.targets import Target
from tests.hostile.vectors import NEXT, VECTORS

MOST_LEFT_MB: Final = 8.0
TIMES: Final = 100
WARMING: Final = 25
TRIES: Final = 4
SETTLE_S: Final = 1.0
"""Before a process that has grown is looked at again: some give back what they have a while later."""


@dataclass(frozen=True)
class Left:
    """Of one kind of request, MiB that are left in the process that kept most, and which it is."""

    name: str
    mb: float
    process: str

    def __str__(self) -> str:
        return f"| {self.name} | {max(0.0, self.mb):.1f} | {self.process} |"


def sendings(target: Target) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is sent, by name."""
    for vector in VECTORS:
        yield f"6: {vector.name}", partial(exchange, target.port, vector.data + NEXT)
    for row in (*ROWS, *BODIES):
        if target.is_behind_haproxy and (row.is_unsent or row.expected(target) == (408,)):
            continue  # HAProxy's to hold, and half a minute each
        yield str(row), partial(exchange, target.port, row.data())


def measure(target: Target, times: int = TIMES, only: str = "") -> Iterator[Left]:
    """What each leaves. An act of many clients is done a tenth as often."""
    for name, send in sendings(target):
        if only in name:
            yield _left(target, name, send, times)
    for act in ACTS:
        if only in str(act):
            yield _left(target, str(act), partial(act.check, target), times // 10)


def _left(target: Target, name: str, send: Callable[[], object], times: int) -> Left:
    for _ in range(min(WARMING, times)):
        send()
    found: list[Left] = []
    while len(found) < TRIES:
        before = memory_mb(target)
        for _ in range(times):
            send()
        if (grown := _most_grown(before, memory_mb(target)))[0] > MOST_LEFT_MB:
            time.sleep(SETTLE_S)
            grown = _most_grown(before, memory_mb(target))
        mb, pid = grown
        found.append(Left(name, mb, target.processes().get(pid, "")))
        if mb <= MOST_LEFT_MB:
            break
    return min(found, key=lambda one: one.mb)


def _most_grown(before: dict[int, float], now: dict[int, float]) -> tuple[float, int]:
    """By how much, and which: of those that were there all the time. A function that is called so
    often gets a replica, and another HAProxy with it, and gives it back.
    """
    return max((mb - before[pid], pid) for pid, mb in now.items() if pid in before)


def memory_mb(target: Target) -> dict[int, float]:
    """MiB of a process's own: heaps and stacks, no pages of files."""
    found = {}
    for pid in target.processes():
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):  # it ends
            found[pid] = _own_mb(pid)
    return found


def _own_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (anonymous,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(anonymous.split()[1]) / 1024


@contextmanager
def serving(name: str) -> Iterator[Target]:
    """A target by its name, in a folder of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hostile-")))
        if name == "up":
            (folder / "stages_of_a_test.py").write_text(STAGES)
            short = stack.enter_context(TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
            standing = Standing(folder, short)
            stack.callback(standing.end)
            yield stack.enter_context(targets.up(standing))
        else:
            workers = 2 if name == "workers" else 1
            yield stack.enter_context(targets.run(folder, workers=workers))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--target", "names", multiple=True, default=("run", "workers", "up"), show_default=True
)
@click.option("--times", default=TIMES, show_default=True, help="How often each is sent.")
@click.option("--only", default="", help="Part of the names of what is sent.")
@click.option("--worst", default=10, show_default=True, help="Rows of the table.")
def main(names: tuple[str, ...], times: int, only: str, worst: int) -> None:
    """Send each hostile request often, and say what is left in memory.

    Exits 1 if a process has more than 8 MiB more, or if one of those that there were at first has
    ended, HAProxy apart.
    """
    is_broken = False
    for name in names:
        with serving(name) as target:
            first = target.processes()
            found = []
            for left in measure(target, times, only):
                found.append(left)
                click.echo(f"{name} {left}", err=True)
            there = target.processes()
            ended = [what for pid, what in first.items() if pid not in there and what != "haproxy"]
        found.sort(key=lambda left: -left.mb)
        broken = [left for left in found if left.mb > MOST_LEFT_MB]
        is_broken |= bool(broken or ended)
        for what in ended:
            click.echo(f"{name}: {what} has ended")
        click.echo(
            f"\n{name}: {len(found)} kinds, each {times} times; {len(broken)} left more than {MOST_LEFT_MB:g} MiB\n"
        )
        click.echo("| sent | left, MiB | process |\n|---|---|---|")
        for left in found[: max(worst, len(broken))]:
            click.echo(str(left))
    sys.exit(is_broken)


if __name__ == "__main__":
    main(prog_name="python -m tests.hostile.left")

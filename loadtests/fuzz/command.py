"""``python -m loadtests.fuzz`` on the command line."""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import psutil

from loadtests import declare
from loadtests.command import heading, say
from loadtests.fuzz import calls, names, watching
from loadtests.fuzz.calls import FuzzCall, Target
from loadtests.fuzz.documented import documented_calls
from loadtests.fuzz.judging import find_fault
from loadtests.fuzz.mutations import made_call
from loadtests.fuzz.sending import Answer, Connection
from loadtests.server import Server, free_port, local, up

WAYS: Final = ("run", "workers", "up")
QUICK: Final = 2_000
DOCUMENTED: Final = 0.1
"""Share of the calls that are made of the OpenAPI document: `schemathesis` makes a hundred a
second.
"""

WARM: Final = 0.2
"""Share of the calls after which memory is looked at the first time: what is made once is no
leak.
"""

FIRST_CALLS: Final = 4
"""Times that each right row is sent before all others: each process has taken what it keeps
then.
"""

CLIENTS: Final = 4
MOST_FAULTS: Final = 20
"""After so many a way is not gone on with."""

SHOWN_BYTES: Final = 1_500

LOGS: Final = ("*.log", "*.log.*", "*.err", "*.out")
"""Names of files that processes write."""


@dataclass(frozen=True)
class Plan:
    """Which calls are made.

    Attributes:
        count: of all.
        share: of those that are made of the OpenAPI document.
        is_names: each has a name of its own (``names``).
    """

    seed: int
    count: int
    share: float = DOCUMENTED
    is_names: bool = False

    @property
    def documented(self) -> int:
        """How many are made of the OpenAPI document."""
        return 0 if self.is_names else int(self.count * self.share)

    @property
    def made(self) -> int:
        """How many are made here."""
        return self.count - self.documented

    @property
    def warm(self) -> int:
        """How many are made before memory is looked at the first time."""
        return min(self.made, int(self.count * WARM))

    def call(self, number: int, targets: Sequence[Target]) -> FuzzCall:
        """What the seed and the number alone decide, so that it can be made again."""
        if self.is_names:
            return names.named_call(self.seed, number)
        return made_call(self.seed, number, targets)


@dataclass
class Found:
    """What came of the calls of one way.

    Attributes:
        statuses: how many answers had each.
        faults: what was wrong, with how it is made again.
        grown: megabytes by process, the most first.
        series: of metrics that have come.
        written: bytes of logs that have.
        seconds: that it took.
    """

    way: str
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    grown: list[tuple[float, str]] = field(default_factory=list)
    series: int = 0
    written: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        statuses = ", ".join(
            f"{count} x {status}" for status, count in sorted(self.statuses.items())
        )
        grown = ", ".join(f"{title} {megabytes:+.0f}" for megabytes, title in self.grown[:4])
        return (
            f"| {self.way} | {self.statuses.total():,} | {self.seconds:.0f} | {statuses} | {grown}"
            f" | {self.series} | {self.written / 1e6:.1f} | {len(self.faults)} |"
        )


HEAD: Final = (
    "| way | calls | s | answers | memory grown, MB | more series | logs, MB | faults |\n"
    "|---|---|---|---|---|---|---|---|"
)


class Sender:
    """Sends calls on connections of its threads, and keeps what was wrong.

    Mutable state: ``found``, and a connection a thread.
    """

    def __init__(self, server: Server, found: Found) -> None:
        self.found = found
        self._port = server.port
        self._lock = threading.Lock()
        self._local = threading.local()

    def send(self, call: FuzzCall, again: str) -> Answer:
        """The answer to a call.

        Args:
            again: options of the command that make the call once more.
        """
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self._port)
        answer: Answer = self._local.connection.ask(call)
        fault = find_fault(call, answer)
        with self._lock:
            self.found.statuses[answer.status] += 1
            if fault:
                self.found.faults.append(f"{fault}\n{shown(call, answer)}\n  again: {again}")
                say(self.found.faults[-1])
        return answer

    @property
    def is_over(self) -> bool:
        """Whether so much is wrong that more of it says nothing new."""
        return len(self.found.faults) >= MOST_FAULTS


def shown(call: FuzzCall, answer: Answer) -> str:
    """A call and its answer, for people."""
    wire = call.wire()
    cut = f" … {len(wire)} bytes" if len(wire) > SHOWN_BYTES else ""
    return (
        f"  {call.what}: {wire[:SHOWN_BYTES]!r}{cut}\n  answer: {answer.status} {answer.headers}"
        f" {answer.body[:600]!r}"
    )


@contextlib.contextmanager
def serving(way: str, folder: Path) -> Iterator[Server]:
    """A Wakeful with all functions."""
    file = declare.write(folder / "serve_config.yaml", calls.applications())
    settings = {"WAKEFUL_PROMOTE_WORK": declare.KEPT, **declare.ROOM}
    log = folder / f"{way}.log"
    if way == "up":
        with up(file, free_port(), log, settings) as server:
            yield server
        return
    options = ["--workers", "2"] if way == "workers" else []
    with local(file, free_port(), log, settings, options=options) as server:
        yield server


def find_targets(server: Server) -> list[Target]:
    """The functions that are called, with what their metadata says; this wakes them."""
    found = []
    for target in [*calls.shipped(), *(target for target, _ in calls.OWN)]:
        answer = server.client.get(f"/v2/models/{target.name}")
        found.append(calls.with_tensors(target, answer.raise_for_status().json()))
    return found


def processes_of(server: Server, way: str) -> list[psutil.Process]:
    """Those that serve."""
    return server.processes() if way == "up" else psutil.Process().children(recursive=True)


def fuzz(way: str, plan: Plan, folder: Path) -> Found:
    """Make the calls of a way, and look at the processes."""
    found = Found(way)
    with serving(way, folder) as server:
        began = time.perf_counter()
        targets = find_targets(server)
        sender = Sender(server, found)

        def logs() -> list[Path]:
            found = (file for end in LOGS for file in server.home.rglob(end))
            return [folder / f"{way}.log", *found]

        at_first = watching.look(processes_of(server, way))
        for target in targets:
            for row in [*target.rows] * FIRST_CALLS:
                server.client.post(target.path.decode(), json=row)
        _send_made(sender, way, plan, range(plan.warm), targets)
        before = watching.look(processes_of(server, way))
        series, written = _series(server), watching.bytes_of(logs())
        _send_made(sender, way, plan, range(plan.warm, plan.made), targets)
        _send_documented(sender, server, way, plan)
        now = watching.look(processes_of(server, way))
        found.faults += watching.find_ends(at_first, now)
        found.grown = watching.find_growth(before, now)
        found.faults += [
            f"{title} has grown by {megabytes:.0f} MB"
            for megabytes, title in found.grown
            if megabytes > watching.MOST_GROWN_MB
        ]
        found.series = _series(server) - series
        found.written = watching.bytes_of(logs()) - written
        if plan.is_names:
            found.faults += _growing_names(found, plan.made - plan.warm)
        found.seconds = time.perf_counter() - began
        found.faults += [f"the log has: {one}" for one in watching.find_tracebacks(logs())]
    return found


def _series(server: Server) -> int:
    return watching.count_series(server.client.get("/metrics").raise_for_status().text)


def _growing_names(found: Found, count: int) -> Iterator[str]:
    if found.series > names.SERIES_MORE:
        yield f"{found.series} series of metrics have come with the names of {count} calls"
    if found.written > names.LOG_BYTES_A_CALL * count:
        yield f"{count} calls have written {found.written / 1e6:.1f} MB of logs"


def _send_made(
    sender: Sender, way: str, plan: Plan, numbers: range, targets: Sequence[Target]
) -> None:
    again = f"--ways {way} --seed {plan.seed}{' --names' if plan.is_names else ''}"

    def send(number: int) -> None:
        if not sender.is_over:
            sender.send(plan.call(number, targets), f"{again} --only {number}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        for done, _ in enumerate(clients.map(send, numbers), 1):
            if done % 10_000 == 0:
                say(f"{way}: {done:,} of {len(numbers):,} calls")


def _send_documented(sender: Sender, server: Server, way: str, plan: Plan) -> None:
    if not plan.documented:
        return
    document = server.client.get("/openapi.json").raise_for_status().json()
    again = f"--ways {way} --seed {plan.seed} --calls {plan.documented} --documented"
    found = documented_calls(
        document, plan.seed, plan.documented, lambda call: sender.send(call, again)
    )
    for name in found:
        if sender.is_over:
            return
        say(f"{way}: {name}")


def send_again(way: str, plan: Plan, numbers: Sequence[int], folder: Path) -> Found:
    """Make single calls once more, and show their answers."""
    found = Found(way)
    with serving(way, folder) as server:
        sender, targets = Sender(server, found), find_targets(server)
        for number in numbers:
            call = plan.call(number, targets)
            click.echo(shown(call, sender.send(call, shlex.join(sys.argv[1:]))))
    return found


def _read_ways(_context: object, _parameter: object, value: str) -> list[str]:
    ways = [way.strip() for way in value.split(",") if way.strip()]
    if unknown := set(ways) - set(WAYS):
        raise click.BadParameter(f"unknown: {', '.join(unknown)}. There are {', '.join(WAYS)}.")
    return ways


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--calls", "count", default=100_000, show_default=True, help="Of each way.")
@click.option("--quick", is_flag=True, help=f"{QUICK:,} calls of each way.")
@click.option("--seed", type=int, help="Of the calls; by the time, unless given.")
@click.option(
    "--ways",
    default="run",
    show_default=True,
    callback=_read_ways,
    help=f"How it is served, some of {', '.join(WAYS)}, separated by commas.",
)
@click.option("--documented", is_flag=True, help="Calls of the OpenAPI document alone.")
@click.option(
    "--names", "is_names", is_flag=True, help="Each call has a name that none had before it."
)
@click.option("--only", type=int, multiple=True, metavar="NUMBER", help="The call of this number.")
def main(
    count: int,
    quick: bool,
    seed: int | None,
    ways: list[str],
    documented: bool,
    is_names: bool,
    only: tuple[int, ...],
) -> None:
    """Make calls that no client should make, and look at what becomes of them.

    Exits 1 if one was not answered as it should be (a 5xx but 503 with a reason, and 504 where the
    caller said how long it waits; no answer; an answer in no form), if a process ended, grew by
    more than 256 MB or wrote a traceback; with --names also if metrics or logs grew with the names.
    """
    seed = int(time.time()) if seed is None else seed
    say(f"seed {seed}")
    share = 1.0 if documented else DOCUMENTED
    plan = Plan(seed, QUICK if quick else count, share, is_names)
    found = []
    for way in ways:
        with TemporaryDirectory(prefix="fz-") as name:
            folder = Path(name)
            found.append(send_again(way, plan, only, folder) if only else fuzz(way, plan, folder))
    for one in found:
        for fault in one.faults:
            click.echo(f"{one.way}: {fault}\n")
    click.echo(
        "\n".join(
            [heading("python -m loadtests.fuzz"), f"Seed {seed}.", "", HEAD, *map(str, found)]
        )
    )
    sys.exit(any(one.faults for one in found))

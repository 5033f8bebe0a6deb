"""``python -m loadtests.bounds`` on the command line."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click

from deployments.ray_support.processes import by_name
from loadtests import declare
from loadtests.bounds import loops
from loadtests.bounds.cases import LIMIT, Case, cases
from loadtests.command import heading, say
from loadtests.server import free_port, local, up
from runtime.protocol import loads

MOST_BLOCK_S: Final = 0.02
MORE_MB: Final = 64.0
TIMES: Final = 5
"""A call that breaks a bound is made so often, and its best try counts: other work on the machine
blocks too."""
ANSWER_S: Final = 120.0
NAMES: Final = 1000
"""Functions that are declared beside those that are called."""
WORST: Final = 25
"""Rows of the table beside those that broke a bound."""
ROOT: Final = Path(__file__).parents[2]
LATE: Final = "late"
"""A file; while it is there, some functions do not load."""


@dataclass(frozen=True)
class Cost:
    """Of one call.

    Attributes:
        parse_s: what reading its JSON alone takes here; 0 where there is none.
        block: longest time of an event loop, all in all, in seconds; and in which process.
        grown: most MB of a process, at its peak; and of which.
    """

    case: Case
    status: int
    took_s: float
    parse_s: float
    block: tuple[float, str]
    grown: tuple[float, str]

    @property
    def limit_mb(self) -> float:
        """Of ``grown``."""
        return self.case.limit_mb or 4 * LIMIT / 1e6 + MORE_MB

    @property
    def apart_s(self) -> float:
        """The block beside the parse."""
        return max(0.0, self.block[0] - self.parse_s)

    @property
    def share(self) -> float:
        """Of the bound that it came nearest to."""
        return max(self.apart_s / MOST_BLOCK_S, self.grown[0] / self.limit_mb)

    @property
    def faults(self) -> str:
        """The bounds that it broke."""
        broken = {
            "**block**": self.apart_s > MOST_BLOCK_S,
            "**memory**": self.grown[0] > self.limit_mb,
            "**no answer**": not self.status and self.case.sent == 1,
        }
        return ", ".join(name for name, is_broken in broken.items() if is_broken)

    def __str__(self) -> str:
        block, grown = (
            f" ({where})" if self.case.by else "" for _, where in (self.block, self.grown)
        )
        memory = f"{max(0.0, self.grown[0]):.0f} of {self.limit_mb:.0f}{grown}"
        return (
            f"| {self.case.name} | {self.status or 'left'} | {self.took_s:.2f}"
            f" | {self.parse_s * 1e3:.0f} | {self.apart_s * 1e3:.1f}{block} | {memory}"
            f" | {self.faults} |"
        )


HEAD: Final = (
    "| call | status | s | parse, ms | block beside it, ms | memory, MB | broken"
    " |\n|---|---|---|---|---|---|---|"
)


Look = Callable[[], dict[int, loops.Seen]]
"""What the processes that serve went through since the last look, by id."""


def declared(name: str, stage: str, settings: Any = None, **args: Any) -> declare.Application:
    """One function of a stage."""
    part = {"stage": "s", "python": f"loadtests.bounds.stages:{stage}"}
    part |= {"with": settings} if settings else {}
    more: dict[str, Any] = {"accepts": ["*/*"]} if stage in ("raw", "Late") else {}
    return declare.function(name, [part], **more, **args)


STAGES: Final = ("take", "arrays", "echo", "count", "raw")


def applications(folder: Path, way: str) -> list[declare.Application]:
    """What is served in a way, those that are only declared at the end."""
    others = [declared(f"other-{n:04}", "take") for n in range(NAMES)]
    if way == "run":
        shipped = map(declare.like, declare.shipped())
        return [*shipped, *(declared(name, name) for name in STAGES), *others]
    hosted = [declared(f"host-{name}", name) for name in STAGES]
    always: dict[str, Any] = {"tier": "own", "autoscaling": {"min_replicas": 1}}
    own = [declared(f"own-{name}", name, **always) for name in STAGES]
    until = {"until": str(folder / LATE)}
    late = [declared(f"late-{name}", "Late", until, tier="own") for name in ("raw", "arrays")]
    return [declare.CATALOGUE, declare.HOST, *hosted, *own, *late, *others]


@contextlib.contextmanager
def serving(way: str, folder: Path) -> Iterator[tuple[str, Look]]:
    """By `wakeful run` with the shipped functions, or by `wakeful up`: the URL, and the look."""
    file, start = folder / "serve_config.yaml", local if way == "run" else up
    file.write_text(json.dumps({"applications": applications(folder, way)}))
    settings = {
        "WAKEFUL_ROOT": str(ROOT),
        **declare.ROOM,
        "WAKEFUL_PROMOTE_WORK": declare.KEPT,
    }
    watched = settings | loops.inserted(folder, ROOT)
    with start(file, free_port(), folder / "log", watched) as server:
        (folder / LATE).touch()

        def look() -> dict[int, loops.Seen]:
            time.sleep(5 * loops.TICK_S)
            others = by_name(server.home, "haproxy") if way == "ray" else []
            return loops.looked(folder, [process.pid for process in others])

        yield server.url, look


def measured(url: str, look: Look, case: Case) -> Cost:
    """Makes the call; again while it seems to break a bound, since what another process does to
    this one is no fault of the call.
    """
    body = case.body() if case.body is not None else None
    parse_s = _parse_s(case.json_of(body)) if body is not None else 0.0
    found: list[Cost] = []
    while len(found) < TIMES:
        before = look()
        began = time.perf_counter()
        status = send(url, case, body)
        took_s = time.perf_counter() - began
        seen = look()
        on_way = {
            pid: one
            for pid, one in seen.items()
            if pid in before and one.title.startswith(case.passes)
        }
        block = max((one.block_s, one.title) for one in on_way.values())
        grown = max((one.peak_mb - before[pid].memory_mb, one.title) for pid, one in on_way.items())
        found.append(Cost(case, status, took_s, parse_s, block, grown))
        if not found[-1].faults:
            break
    return min(found, key=lambda cost: (cost.grown[0] > cost.limit_mb, cost.block))


def _parse_s(body: bytes) -> float:
    """By processor time: this process may be kept waiting too."""
    began = time.process_time()
    with contextlib.suppress(Exception):
        loads(body)
    return time.process_time() - began


def send(url: str, case: Case, body: bytes | None) -> int:
    """The status of the answer; 0 if there was none, or the client left."""
    method, parts, headers = "GET", None, {"connection": "close"}
    if body is not None:
        method, parts = "POST", _parts(case, body)
        headers |= {"content-type": "application/json"}
        headers |= {"transfer-encoding": "chunked"} if case.piece else {}
        headers |= {} if case.piece else {"content-length": str(len(body))}
    address = url.removeprefix("http://")
    with contextlib.closing(HTTPConnection(address, timeout=ANSWER_S)) as connection:
        with contextlib.suppress(OSError):  # refused before it was read
            connection.request(method, case.path, parts, headers | case.headers)
        if case.sent < 1:
            return 0
        try:
            answer = connection.getresponse()
        except (OSError, HTTPException):
            return 0
        with contextlib.suppress(OSError, HTTPException):
            while answer.read(1 << 20):
                pass
        return answer.status


def _parts(case: Case, body: bytes) -> Iterator[bytes]:
    body, size = body[: int(len(body) * case.sent)], case.piece
    if not size:
        yield body
        return
    yield from (
        b"%x\r\n%b\r\n" % (len(chunk), chunk)
        for chunk in (body[at : at + size] for at in range(0, len(body), size))
    )
    yield b"0\r\n\r\n" if case.sent == 1 else b""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Part of the names of the calls to make.")
@click.option("--skip", default="\n", help="Part of the names of the calls not to make.")
def main(only: str, skip: str) -> None:
    """Make the worst calls there are, one by one, and measure what each costs the processes that
    serve.

    Exits 1 if one broke a bound: 20 ms of an event loop beside the parse of a JSON body, or more
    memory than is declared and 64 MB.
    """
    costs = []
    chosen = [case for case in cases() if only in case.name and skip not in case.name]
    for way in ("run", "ray"):
        part = [case for case in chosen if bool(case.by) is (way == "ray")]
        if not part:
            continue
        with TemporaryDirectory(prefix="bd-") as folder, serving(way, Path(folder)) as served:
            for case in part:
                costs.append(measured(*served, case))
                say(str(costs[-1]))
    costs.sort(key=lambda cost: (not cost.faults, -cost.share))
    broken = sum(bool(cost.faults) for cost in costs)
    text = (
        f"{heading('python -m loadtests.bounds')}\n\n{len(costs)} calls, {broken} broke a bound;"
        " those that cost most:\n\n"
    )
    text += "\n".join([HEAD, *map(str, costs[: broken + WORST])])
    click.echo(text)
    sys.exit(bool(broken))

"""What a stage costs that is split off: ``python -m loadtests.bench.hop``.

One caller, one call at a time, alternately of a function in one process and of the same function whose middle stage has a deployment of its
own; both with a replica that is always there, behind the HAProxy of `wakeful up`. What the second takes longer is the hop: a tensor of
600 KB to another process, and its answer back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import orjson

from loadtests.bench import machine, report
from loadtests.bench.children import ended_in_order
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, up
from loadtests.http1 import Connection

LIMIT_S: Final = 600.0

ALWAYS: Final = {"min_replicas": 1, "max_replicas": 1}

GRAPHS: Final = {
    "there": [("image", "image"), ("middle", "middle"), ("answer", "answer")],
    "back": [("image", "image"), ("same", "same"), ("answer", "answer_same")],
}
"""Stages by graph, with their Python; the middle one is split off."""

WAYS: Final = ("fused", "split")


def declared() -> dict[str, Any]:
    """A file of every graph, fused and split."""
    applications: list[dict[str, Any]] = [
        {"name": "catalogue", "route_prefix": "/", "import_path": "deployments:catalogue"},
        {"name": "host", "route_prefix": "/v2/models", "import_path": "deployments:host"},
    ]
    for graph, named in GRAPHS.items():
        for way in WAYS:
            stages: list[dict[str, Any]] = [{"stage": stage, "python": f"loadtests.bench.hop_stages:{python}"} for stage, python in named]
            if way == "split":
                stages[1]["deployment"] = ALWAYS
            applications.append(
                {
                    "name": f"{graph}-{way}",
                    "route_prefix": path(graph, way),
                    "import_path": "deployments:function",
                    "args": {"graph": stages, "autoscaling": ALWAYS},
                }
            )
    return {"http_options": {"host": HOST, "port": 8000}, "applications": applications}


def path(graph: str, way: str) -> str:
    """Where a function is called."""
    return f"/v2/models/{graph}-{way}"


async def seconds(port: int, calls: int, graph: str) -> tuple[dict[str, list[float]], str]:
    """The time of every call by way, taken in turns; and what is wrong."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    wrong = ""
    async with Connection(HOST, port) as connection:
        for number in range(calls):
            for way in WAYS:
                began = time.perf_counter()
                await connection.exchange("POST", path(graph, way), orjson.dumps({"seed": number}))
                found[way].append(time.perf_counter() - began)
                if connection.status != 200 or orjson.loads(connection.body).get("middle") != number:
                    wrong = f"{way} answered {connection.status}: {connection.body[:200].decode(errors='replace')}"
    return found, wrong


def added_ms(found: Mapping[str, Sequence[float]], share: float) -> float:
    """How much longer the split function takes at one percentile."""
    return (percentile(found["split"], share) - percentile(found["fused"], share)) * 1e3


def measure(server: Server, rounds: int, calls: int) -> list[Number]:
    """All numbers."""
    numbers = []
    for graph, what in (("there", "600 KB there, a number back"), ("back", "600 KB there, 600 KB back")):
        asyncio.run(seconds(server.port, 100, graph))  # buffers grow, and connections are opened
        each = []
        for number in range(1, rounds + 1):
            click.echo(f"{what}: round {number} of {rounds}", err=True)
            each.append(asyncio.run(seconds(server.port, calls, graph)))
        void = "; ".join({wrong for _, wrong in each if wrong})
        for way in WAYS:
            numbers.append(Number(f"{what}, {way}: p50", tuple(percentile(of[way], 0.5) * 1e3 for of, _ in each), "ms", void=void))
        target = Target("at most", 3.5) if graph == "there" else None
        numbers.append(Number(f"{what}: added by the hop, p50", tuple(added_ms(of, 0.5) for of, _ in each), "ms", target, void=void))
        numbers.append(Number(f"{what}: added by the hop, p99", tuple(added_ms(of, 0.99) for of, _ in each), "ms", void=void))
    return numbers


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Of each graph.")
@click.option("--calls", default=1000, show_default=True, help="Of each way in a round.")
def main(rounds: int, calls: int) -> None:
    """Prints a table."""
    with ended_in_order(LIMIT_S), TemporaryDirectory(prefix="hop-") as folder:
        file = Path(folder) / "hop.yaml"
        file.write_bytes(orjson.dumps(declared()))  # JSON is YAML
        with up(file, free_port(), FirstCall(path("there", "split"), {"seed": 1}), Path(folder) / "log") as server:
            numbers = measure(server, rounds, calls)
    click.echo(f"{machine.describe()}.\n\n{report.table(numbers)}")


if __name__ == "__main__":
    main()

"""More functions than memory: each is called in turn, and whoever has been idle longest yields."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psutil

from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.asleep import REPORTED_S
from loadtests.bench.wake.calls import Answer, call_once
from loadtests.bench.wake.models import table
from loadtests.bench.wake.outcome import lost, taken_ms
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import Wakeful, up

MODEL_BYTES = 60_000_000
SLACK, SPARE_MB = 1.05, 30
"""Of the room: what a function holds beside its table, and what the host itself grows by with its first functions."""

TURNS = 2
"""Times that all are called: in the second, nobody's memory is new."""

AWAKE_S = 600.0
"""``downscale_to_zero_delay_s``: only the lack of room puts anybody to sleep."""


def room(bench: Bench) -> Iterator[Number]:
    """Functions with a model of 60 MB, which is mapped and does not count, and a stage that keeps 60 MB of its own, which do."""
    count, fit = bench.plan.large, bench.plan.room
    budget_mb = round(fit * MODEL_BYTES * SLACK / 1e6) + SPARE_MB
    root = bench.folder / "room"
    root.mkdir()
    functions = []
    for index in bench.rounds("models of 60 MB", count):
        table(root / f"{index}.onnx", MODEL_BYTES, seed=index)
        functions.append(declared(index))
    settings = {
        "WAKEFUL_ROOT": str(root),
        "WAKEFUL_MODELS": str(root / "models"),
        "WAKEFUL_MEMORY_MB": str(budget_mb),
        "WAKEFUL_PROMOTE_WORK": declare.KEPT,
        "WAKEFUL_HOSTS": "1",
    }
    answers, held = [], []
    bench.say(f"{count} functions, room for {fit}")
    with up(bench.file("room", functions), bench.port, bench.log("room"), settings) as server:
        host = server.host()
        base = host.memory_info()
        for name in [f"table-{index}" for index in range(count)] * TURNS:
            answers.append(called(server, name))
            held.append(host.memory_info())
        time.sleep(REPORTED_S)
        awake = sum(entry["state"] == "ready" for entry in server.listed() if entry["tier"] == "host")
    yield from numbers(bench, answers, base, held, awake, budget_mb)


def declared(index: int) -> declare.Application:
    """One of them."""
    model = f"{index}.onnx"
    graph: list[dict[str, Any]] = [
        {"stage": "row", "onnx": model},
        {"stage": "hold", "python": "loadtests.bench.wake.stages:Hold", "with": {"file": model}},
    ]
    return declare.function(f"table-{index}", graph, example={"place": index}, autoscaling=declare.sleepy(AWAKE_S))


def called(server: Wakeful, name: str) -> Answer:
    """One call of a function, which has to make room first."""
    return call_once(server.port, server.urls[name], json.dumps({"place": 7}).encode())


def numbers(
    bench: Bench, answers: list[Answer], base: psutil._common.pmem, held: list[psutil._common.pmem], awake: int, budget_mb: int
) -> Iterator[Number]:
    """Failures, memory above what the host held before, and the wakes."""
    what = f"{bench.plan.large} functions of 60 MB called in turn, room for {bench.plan.room}"
    cold = [answer for answer in answers if answer.was_cold]
    grown = max(one.rss - base.rss for one in held) / 1e6
    own = max((one.rss - one.shared) - (base.rss - base.shared) for one in held) / 1e6
    yield lost(what, answers)
    yield Number(f"{what}: host's RSS above its base, most", (grown,), "MB", Target("at most", budget_mb), f"base {base.rss / 1e6:.0f} MB")
    yield Number(f"{what}: of that its own, without mapped files", (own,), "MB")
    yield Number(f"{what}: awake at the end", (awake,), "")
    yield Number(f"{what}: wakes", (len(cold),), "", note=f"of {len(answers)} calls")
    yield Number(f"{what}: first answer, p50", taken_ms(cold), "ms")

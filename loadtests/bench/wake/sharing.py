"""The shared host's price: a function alone in it against a deployment of its own, and a rare function beside a busy one."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from loadtests.bench import wrk
from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.latency import Connection
from loadtests.bench.serving import HOST
from loadtests.bench.wake import declare
from loadtests.bench.wake.outcome import ratios
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import Wakeful, up

AWAKE_S = 600.0
"""``downscale_to_zero_delay_s``: nothing sleeps while it is measured."""

CONNECTIONS, BUSY = 8, 32
GAP_S = 0.05
LEAD_S = 0.5
"""Of a load, before and after what is measured under it."""


def price(bench: Bench) -> Iterator[Number]:
    """`embed` in the host, where nobody else is called, and the same with a deployment of its own, in turn on one cluster."""
    autoscaling = {"min_replicas": 1, "max_replicas": 1}
    functions = [
        bench.like("embed", autoscaling=declare.sleepy(AWAKE_S)),
        bench.like("embed", "embed-own", tier="own", autoscaling=autoscaling),
    ]
    body = bench.example("embed")
    rates: dict[str, list[float]] = {"embed": [], "embed-own": []}
    voids: list[str] = []
    with up(bench.file("sharing", functions), bench.port, bench.log("sharing"), {"WAKEFUL_PROMOTE_WORK": declare.KEPT}) as server:
        for name in rates:  # wakes it, and grows its buffers to the largest batch
            wrk.run(server.url(name), [body], CONNECTIONS, min(2.0, bench.plan.load_s))
        for index in bench.rounds("embed in the host and by itself", bench.plan.rounds):
            for name in sorted(rates, reverse=bool(index % 2)):
                load = wrk.run(server.url(name), [body], CONNECTIONS, bench.plan.load_s)
                rates[name].append(load.requests_per_s)
                voids.append(load.void)
        tiers = {name: server.entry(name)["tier"] for name in rates}
    voids += [] if tiers == {"embed": "host", "embed-own": "own"} else [f"tiers were {tiers}"]
    void = "; ".join(dict.fromkeys(filter(None, voids)))
    yield Number("`embed` alone in the host, 8 connections", tuple(rates["embed"]), "req/s", void=void)
    yield Number("`embed` as its own deployment, 8 connections", tuple(rates["embed-own"]), "req/s", void=void)
    yield Number(
        "price of sharing: the host's rate over its own deployment's",
        ratios(rates["embed"], rates["embed-own"]),
        "",
        Target("at least", 0.95),
        void=void,
    )


def rare(bench: Bench) -> Iterator[Number]:
    """`forecast`, called every 50 ms, while 32 callers keep `embed` busy in the same host, and while they do not."""
    functions = [bench.like(name, autoscaling=declare.sleepy(AWAKE_S)) for name in ("embed", "forecast")]
    alone, beside, voids = [], [], []
    count = max(20, round((bench.plan.load_s - 2 * LEAD_S) / GAP_S))
    with up(bench.file("rare", functions), bench.port, bench.log("rare"), {"WAKEFUL_PROMOTE_WORK": declare.KEPT}) as server:
        wrk.run(server.url("embed"), [bench.example("embed")], BUSY, min(2.0, bench.plan.load_s))
        paced(bench, server, 20)
        for _ in bench.rounds("forecast beside a busy embed", bench.plan.rounds):
            alone.append(percentile(paced(bench, server, count), 0.99) * 1e3)
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(wrk.run, server.url("embed"), [bench.example("embed")], BUSY, bench.plan.load_s)
                time.sleep(LEAD_S)
                beside.append(percentile(paced(bench, server, count), 0.99) * 1e3)
                voids.append("the load ended first" if load.done() else load.result().void)
        if any(server.entry(name)["tier"] != "host" for name in ("embed", "forecast")):
            raise ChildFailed("a function has left the host, so they do not share it.")
    void = "; ".join(dict.fromkeys(filter(None, voids)))
    note = f"{count} calls a round, one each {GAP_S * 1e3:.0f} ms"
    yield Number("`forecast` alone in the host: p99", tuple(alone), "ms", note=note)
    yield Number("`forecast` while `embed` is called by 32: p99", tuple(beside), "ms", note=note, void=void)
    yield Number(
        "`forecast` while `embed` is called by 32: p99 over that alone", ratios(beside, alone), "", Target("at most", 3.0), void=void
    )


def paced(bench: Bench, server: Wakeful, count: int) -> list[float]:
    """Seconds of calls of `forecast` over one connection, one each ``GAP_S``."""
    seconds = []
    gc.disable()
    try:
        with Connection(HOST, server.port, server.urls["forecast"], bench.example("forecast")) as connection:
            for _ in range(count):
                start = time.perf_counter()
                connection.post()
                seconds.append(time.perf_counter() - start)
                time.sleep(max(0.0, GAP_S - seconds[-1]))
    finally:
        gc.enable()
    return seconds

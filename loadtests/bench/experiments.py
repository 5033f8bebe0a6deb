"""Which numbers are measured, and how: each experiment takes a server that answers and returns its lines of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from loadtests.bench import wrk
from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.latency import Connection, probe
from loadtests.bench.oracle import EMBED, TRIVIAL, wrong_embeddings, wrong_trivial
from loadtests.bench.policies import candidates, in_order
from loadtests.bench.serving import HOST, Server
from loadtests.bench.setting import Bench
from loadtests.bench.texts import Text

BATCH_SIZES = (1, 8, 16, 32)
WARM_UP_S = 2.0
"""Load before the first round that is not counted: buffers grow to the largest batch then."""
FINALISTS = 2
"""Offline policies that are measured in every round, after all were measured once."""


def embed_under_load(bench: Bench, server: Server, where: str = "on Ray", *, is_target: bool = True) -> list[Number]:
    """64 connections, 14 tokens, against the bare loop at its best batch size."""

    def limit() -> float:
        plans = [in_order(len(bench.short), size) for size in BATCH_SIZES]
        return max(bench.bare.rows_per_s(bench.short, plan, bench.pace.bare_s) for plan in plans)

    def ours(seconds: float) -> wrk.Load:
        return wrk.run(server.url(EMBED), bodies(bench.short), 64, seconds)

    return against(
        bench,
        ("bare ONNX Runtime, all cores, 14 tokens", "rows/s", limit, f"best of batches of {', '.join(map(str, BATCH_SIZES))}"),
        (f"`embed` {where}, 64 connections", ours),
        Target("at least", 0.80) if is_target else None,
        wrong_embeddings(bench.bare, server, bench.short[:8]),
    )


def mixed_lengths(bench: Bench, server: Server) -> list[Number]:
    """32 connections, 4 to 200 tokens, against the best offline policy."""
    bench.say("embed, mixed lengths: trying offline policies")
    plans = dict(candidates([len(text.tokens) for text in bench.mixed]))
    first = {name: bench.bare.rows_per_s(bench.mixed, plan, bench.pace.bare_s) for name, plan in plans.items()}
    finalists = sorted(first, key=first.__getitem__, reverse=True)[:FINALISTS]

    def limit() -> float:
        return max(bench.bare.rows_per_s(bench.mixed, plans[name], bench.pace.bare_s) for name in finalists)

    def ours(seconds: float) -> wrk.Load:
        return wrk.run(server.url(EMBED), bodies(bench.mixed), 32, seconds)

    return against(
        bench,
        ("best offline policy, all cores, 4 to 200 tokens", "rows/s", limit, finalists[0]),
        ("`embed` on Ray, 4 to 200 tokens, 32 connections", ours),
        Target("at least", 0.75),
        wrong_embeddings(bench.bare, server, bench.mixed[:8]),
    )


def trivial_under_load(bench: Bench, server: Server, bare_url: str) -> list[Number]:
    """8 connections, against the same function on bare Starlette and uvicorn."""

    def load(url: str, seconds: float) -> wrk.Load:
        return wrk.run(url, [{"x": float(x)} for x in range(100)], 8, seconds)

    def limit() -> float:
        bare = load(bare_url, bench.pace.load_s)
        if bare.void:
            raise ChildFailed(f"bare uvicorn: {bare.void}")
        return bare.requests_per_s

    limits, rate, share = against(
        bench,
        ("bare uvicorn and Starlette, trivial function, 8 connections", "req/s", limit, "one process"),
        ("trivial function on Ray, 8 connections", lambda seconds: load(server.url(TRIVIAL), seconds)),
        Target("at least", 0.22),
        wrong_trivial(server, TRIVIAL),
    )
    wanted = Number(rate.name, rate.rounds, rate.unit, Target("at least", 4500), rate.note, rate.void)
    return [limits, wanted, share]


def against(
    bench: Bench,
    limit: tuple[str, str, Callable[[], float], str],
    ours: tuple[str, Callable[[float], wrk.Load]],
    target: Target | None,
    wrong: str,
) -> list[Number]:
    """Alternates between a limit and our rate; the limit, our rate, and the ratio of each round.

    Args:
        limit: name, unit, how to measure it, and a note.
        ours: name and how to measure it for so many seconds.
        target: for the ratio; None on a side that only informs.
        wrong: why our rate is void whatever it is.
    """
    (limit_name, limit_unit, measure_limit, note), (our_name, measure) = limit, ours
    limits, rates, voids = [], [], [wrong]
    measure(min(WARM_UP_S, bench.pace.load_s))
    for _ in bench.rounds(our_name):
        limits.append(measure_limit())
        load = measure(bench.pace.load_s)
        rates.append(load.requests_per_s)
        voids.append(load.void)
    void = "; ".join(dict.fromkeys(filter(None, voids)))
    ratios = tuple(rate / bound for rate, bound in zip(rates, limits, strict=True))
    return [
        Number(limit_name, tuple(limits), limit_unit, note=note),
        Number(our_name, tuple(rates), "req/s", void=void),
        Number(f"{our_name}, share of that", ratios, target=target, void=void),
    ]


def one_connection(bench: Bench, server: Server, where: str = "on Ray", *, is_target: bool = True) -> list[Number]:
    """What one caller waits beyond the model call, and how far the slow ones are from the usual."""
    text = bench.short[0]
    bare: list[float] = []
    paced: list[float] = []
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in bench.rounds(f"embed {where}, 1 connection"):
        bare.append(percentile(bench.bare.call_seconds(text, max(100, bench.pace.probes // 5)), 0.5) * 1e3)
        with Connection(HOST, server.port, EMBED, {"text": text.text}) as connection:
            seconds = probe(connection, bench.pace.probes)
        for share, values in zip((0.5, 0.99, 0.999), found, strict=True):
            values.append(percentile(seconds, share) * 1e3)
        idle_s = max(0.0, found[0][-1] - bare[-1]) / 1e3
        paced.append(percentile(bench.bare.call_seconds(text, max(100, bench.pace.probes // 5), idle_s), 0.5) * 1e3)
    p50, p99, p999 = found
    void = wrong_embeddings(bench.bare, server, [text])
    name = f"`embed` {where}, 1 connection"

    def number(what: str, rounds: Iterable[float], unit: str = "", limit: float | None = None, note: str = "") -> Number:
        target = None if limit is None or not is_target else Target("at most", limit)
        return Number(f"{name}: {what}", tuple(rounds), unit, target, note, void)

    return [
        Number("bare single call, 14 tokens, one thread: p50", tuple(bare), "ms", note="the model call alone, tokenising excluded"),
        number("p50", p50, "ms", note=f"{bench.pace.probes} requests a round"),
        number("p50 minus the bare call", (ours - call for ours, call in zip(p50, bare, strict=True)), "ms", 0.6),
        Number("bare single call with the same idle time between two calls: p50", tuple(paced), "ms", note="a core that slept is slower"),
        number("p50 minus that", (ours - call for ours, call in zip(p50, paced, strict=True)), "ms"),
        number("p99 / p50", (high / mid for high, mid in zip(p99, p50, strict=True)), limit=2.5),
        number("p99.9 / p50", (high / mid for high, mid in zip(p999, p50, strict=True)), limit=5),
    ]


def price_of_the_way(bench: Bench, server: Server, ways: Sequence[tuple[str, str]]) -> Iterator[Number]:
    """The trivial function by several ways to it: latency on one connection, rate on eight.

    Args:
        ways: name of the way and its path on ``server``.
    """
    for way, path in ways:
        latency: list[float] = []
        rates, voids = [], [wrong_trivial(server, path)]
        for _ in bench.rounds(f"trivial function {way}"):
            with Connection(HOST, server.port, path, {"x": 1.5}) as connection:
                latency.append(percentile(probe(connection, bench.pace.probes), 0.5) * 1e3)
            load = wrk.run(server.url(path), [{"x": 1.5}], 8, bench.pace.load_s / 2)
            rates.append(load.requests_per_s)
            voids.append(load.void)
        void = "; ".join(dict.fromkeys(filter(None, voids)))
        yield Number(f"trivial function {way}, 1 connection: p50", tuple(latency), "ms", void=void)
        yield Number(f"trivial function {way}, 8 connections", tuple(rates), "req/s", void=void)


def bodies(texts: Sequence[Text]) -> list[dict[str, object]]:
    """The JSON calls for texts."""
    return [{"text": text.text} for text in texts]

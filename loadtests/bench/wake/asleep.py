"""The first answer of a function that sleeps: in the shared host, and as a deployment of its own at zero."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.calls import Answer, call_once
from loadtests.bench.wake.outcome import taken_ms
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import LATE_S, Wakeful, up
from loadtests.bench.wake.timing import phases

DELAY_S = 1.0
"""``downscale_to_zero_delay_s``: short, since every try waits for it."""

QUIET_S = 0.5
"""Between a function that is asleep and its next call: what its unloading leaves to do is done."""

OWN_DELAY_S = 3.0
"""Of a deployment, and its ``downscale_delay_s``; its policy looks back for 2 s at least."""

SPARED_S = 6.0
"""The same for a deployment: its last replica has ended, and the process that the one before took was replaced."""

REPORTED_S = 0.5
"""Until a new replica has told the catalogue of its start."""

TRIVIAL = "loadtests.bench.trivial:answer"


def shared(bench: Bench, name: str, p50_ms: float, worst_ms: float | None) -> Iterator[Number]:
    """A shipped function that sleeps in the host, called once each time it is asleep."""
    file = bench.file(name, [bench.like(name, autoscaling=declare.sleepy(DELAY_S))])
    with up(file, bench.port, bench.log(name), {"WAKEFUL_PROMOTE_WORK": declare.KEPT}) as server:
        answers = [first_call(server, name, bench.example(name), QUIET_S) for _ in bench.rounds(f"{name} asleep", bench.plan.tries)]
    what = f"`{name}` asleep: first answer over HTTP"
    taken = taken_ms(answers)
    yield Number(f"{what}, p50", taken, "ms", Target("at most", p50_ms), f"{len(taken)} tries, a new connection each", wrong(answers))
    limit = None if worst_ms is None else Target("at most", worst_ms)
    yield Number(f"{what}, worst", (max(taken, default=math.nan),), "ms", limit, void=wrong(answers))
    yield from phases(f"`{name}` asleep", [dict(answer.timing) for answer in answers if answer.was_cold])


def own(bench: Bench) -> Iterator[Number]:
    """Deployments of their own at zero: the shipped `embed`, and a function that computes nothing, which shows what of it is Ray's.

    With a process that was started ahead, as by default, and without one.
    """
    yield from _own(bench, "own", spares=1, target=Target("at most", 1.3))
    yield from _own(bench, "own without a spare process", spares=0, target=None)


def _own(bench: Bench, section: str, *, spares: int, target: Target | None) -> Iterator[Number]:
    scaling = declare.sleepy(OWN_DELAY_S, downscale_delay_s=OWN_DELAY_S)
    functions = [
        bench.like("embed", "embed-own", tier="own", autoscaling=scaling),
        declare.function("trivial-own", [{"stage": "answer", "python": TRIVIAL}], tier="own", autoscaling=scaling),
    ]
    bodies = {"embed-own": bench.example("embed"), "trivial-own": {"x": 1.5}}
    found: dict[str, list[Answer]] = {name: [] for name in bodies}
    began: dict[str, list[float]] = {name: [] for name in bodies}
    settings = {"WAKEFUL_SPARE_PROCESSES": str(spares)}
    with up(bench.file("own", functions), bench.port, bench.log("own"), settings) as server:
        for _ in bench.rounds(section, bench.plan.own_tries):
            for name, body in bodies.items():
                found[name].append(first_call(server, name, body, SPARED_S))
                time.sleep(REPORTED_S)
                wake = server.entry(name)["last_wake"]
                began[name] += [wake["at"] - found[name][-1].at] if wake else []
    for name, function in (("embed-own", "`embed`"), ("trivial-own", "a function that computes nothing")):
        taken = tuple(answer.seconds for answer in found[name])
        bad = next((f"status {answer.status}: {answer.body[:100]!r}" for answer in found[name] if not answer.is_good), "")
        what = f"{function} as an own deployment at zero{'' if spares else ', no spare process'}"
        wanted = target if name == "embed-own" else None
        yield Number(f"{what}: first answer, p50", taken, "s", wanted, f"{len(taken)} tries", bad)
        yield Number(f"{what}: of that, until its replica began to load", tuple(began[name]), "s", void=bad)


def first_call(server: Wakeful, name: str, body: dict[str, object], quiet_s: float) -> Answer:
    """Waits until it sleeps, and calls it."""
    server.wait(name, "asleep", OWN_DELAY_S + LATE_S)
    time.sleep(quiet_s)
    return call_once(server.port, server.urls[name], json.dumps(body).encode())


def wrong(answers: list[Answer]) -> str:
    """Why these are not first answers of sleeping functions; empty when they are."""
    bad = [answer for answer in answers if not answer.is_good]
    if bad:
        return f"{len(bad)} of {len(answers)} failed, the first: {bad[0].status} {bad[0].body[:100]!r}"
    warm = sum(not answer.was_cold for answer in answers)
    return f"{warm} of {len(answers)} woke nobody" if warm else ""

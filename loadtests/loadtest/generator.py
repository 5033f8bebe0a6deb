"""The generator of ``wakeful loadtest`` measured against servers that are known: how many calls a
second one process sends on time, how far its latencies are from wrk's, and what it says of a server
that stands still.

    python -m loadtests.loadtest.generator
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Final

import click
import numpy as np

from deployments.loadtest.arrivals import parse_shape
from deployments.loadtest.calls.load_call import AnswerForm, LoadCall
from deployments.loadtest.generator.null_server import null_server
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.generator.running import run_load
from deployments.loadtest.results.records import CallRecord, Run
from loadtests.bench import wrk

RATES: Final = (500, 1000, 1500, 2000, 3000, 4000)

DELAY_MS: Final = 10
"""Of the server against which latencies are compared."""

CONNECTIONS: Final = 5
"""Of wrk: with that delay about 500 calls a second."""

STALL_S: Final = 1.0


def steady(url: str, rate: float, seconds: float, warm_up_s: float = 1.0) -> Run:
    """Calls at a steady rate from one process."""
    call = LoadCall("null", "/", b'{"x": 1}', {"content-type": "application/json"})
    shape = parse_shape("steady", {}, {"null": rate}, seconds + warm_up_s)
    form = AnswerForm({"type": "object"}, {}, {})
    return run_load(LoadPlan(url, {"null": (call,)}, {"null": form}, shape, warm_up_s=warm_up_s))


def counted(run: Run) -> list[CallRecord]:
    """The calls after the warm-up."""
    return [call for call in run.calls if call.intended >= run.warm_up_s]


def spread_ms(values: Sequence[float]) -> str:
    """Median, 99th part and longest, in milliseconds."""
    parts = np.percentile(values, [50, 99, 100]) * 1000
    return ", ".join(f"{part:.2f}" for part in parts)


def measure_rates(seconds: float) -> None:
    """What is sent, how late, and what it costs."""
    click.echo("rate: sent a second; late (p50, p99, most, ms); latency (the same); cores; limited")
    with null_server() as (url, _):
        for rate in RATES:
            run = steady(url, rate, seconds)
            calls = counted(run)
            late = [call.sent - call.intended for call in calls]
            took = [call.latency_s for call in calls]
            cores = np.mean([sample.cpu for sample in run.generator] or [np.nan])
            click.echo(
                f"{rate}: {len(calls) / seconds:.0f}; {spread_ms(late)}; {spread_ms(took)};"
                f" {cores:.2f}; {run.was_limited or 'no'}"
            )


def measure_latency(seconds: float) -> None:
    """The medians of wrk and of the generator, in turns."""
    with null_server(DELAY_MS) as (url, _):
        for _ in range(3):
            load = wrk.run(f"{url}/", [{"x": 1}], CONNECTIONS, seconds)
            run = steady(url, load.requests_per_s, seconds)
            median = float(np.median([call.latency_s for call in counted(run)])) * 1000
            click.echo(
                f"{load.requests_per_s:.0f}/s: wrk {load.p50_ms:.3f} ms, generator {median:.3f} ms,"
                f" apart {median - load.p50_ms:+.3f} ms"
            )


def measure_stall(seconds: float) -> tuple[float, float]:
    """A server that is stopped for a second under a constant rate: its 99th percentile as it
    follows from when calls were to be sent, and as it is reported; in milliseconds.
    """
    with null_server() as (url, pid):
        began = time.time()
        stopped = list[float]()

        def stall() -> None:
            time.sleep(seconds / 2)
            os.kill(pid, signal.SIGSTOP)
            stopped.append(time.time())
            time.sleep(STALL_S)
            os.kill(pid, signal.SIGCONT)
            stopped.append(time.time())

        thread = threading.Thread(target=stall)
        thread.start()
        run = steady(url, 200, seconds)
        thread.join()
        assert run.started >= began
    first, last = (moment - run.started for moment in stopped)
    calls = counted(run)
    usual = float(np.median([call.latency_s for call in calls]))
    true = [
        last - call.intended + usual if first <= call.intended <= last else usual for call in calls
    ]
    expected, found = (
        float(np.percentile(values, 99)) * 1000
        for values in (true, [call.latency_s for call in calls])
    )
    click.echo(
        f"stopped for {last - first:.3f} s: p99 {found:.1f} ms, true {expected:.1f} ms,"
        f" apart {found / expected - 1:+.2%}"
    )
    return expected, found


@click.command(help=__doc__)
@click.option("--seconds", type=click.FloatRange(2.0), default=10.0, show_default=True)
@click.option("--only", type=click.Choice(["rates", "latency", "stall"]))
def main(seconds: float, only: str | None) -> None:
    """All three, on this machine."""
    click.echo(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}")
    if only in (None, "rates"):
        measure_rates(seconds)
    if only in (None, "latency"):
        click.echo(wrk.missing()) if wrk.missing() else measure_latency(seconds)
    if only in (None, "stall"):
        measure_stall(max(seconds, 10.0))


if __name__ == "__main__":
    main()

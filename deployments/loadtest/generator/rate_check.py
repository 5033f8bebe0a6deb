"""Whether a rate is beyond the generator: tried for a moment against a server that answers
everything at once, before the load begins.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from deployments.loadtest.arrivals import parse_shape
from deployments.loadtest.calls.load_call import AnswerForm, LoadCall
from deployments.loadtest.generator.null_server import null_server
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.generator.workers import GeneratorProcesses
from deployments.loadtest.refusal import LoadTestRefused
from deployments.loadtest.results.records import CallRecord

EASY_RATE: Final = 700.0
"""Calls a second that a process sends on any machine; only more are tried."""

MOST_TRIED: Final = 8000.0
"""Calls a second that a process is tried with; no machine sends as many."""

TRIED_S: Final = 1.0

WAIT_S: Final = 1.0
"""For calls that are late, before the trial is ended."""

MOST_LATE_S: Final = 0.05
"""The generator keeps up as long as its last calls are sent this late at most."""


def check_rate(plan: LoadPlan) -> None:
    """Refuse a plan whose busiest second is more than its processes can send.

    Raises:
        LoadTestRefused: says how much they can.
    """
    rate = plan.shape.highest_rate
    if rate <= EASY_RATE * plan.processes:
        return
    reached = measure_rate(plan, min(rate, MOST_TRIED * plan.processes))
    if reached < rate:
        raise LoadTestRefused(
            f"up to {rate:,.0f} calls a second are asked for, and {plan.processes} process"
            f"{'es send' if plan.processes > 1 else ' sends'} about {reached:,.0f} on this machine."
            " Lower the rate, or send from more processes (`--processes`) where there are cores for"
            " them.",
            where="--rps",
        )


def measure_rate(plan: LoadPlan, rate: float) -> float:
    """Calls a second that a plan's processes send on time, ``rate`` at most; of its first call."""
    call = next(iter(plan.calls.values()))[0]
    sent = LoadCall("null", "/", call.body, {"content-type": "application/json"})
    form = AnswerForm({}, {}, {})
    shape = parse_shape("steady", {}, {"null": rate}, TRIED_S)
    records: list[CallRecord] = []
    with null_server() as (url, _):
        tried = replace(
            plan,
            url=url,
            calls={"null": (sent,)},
            forms={"null": form},
            shape=shape,
            warm_up_s=0.0,
            promises={},
        )
        with GeneratorProcesses(tried, records.extend) as workers:
            workers.begin()
            is_stopped = False
            while not workers.is_done:
                time.sleep(0.02)
                if not is_stopped and time.monotonic() > workers.began + TRIED_S + WAIT_S:
                    is_stopped = True
                    workers.stop()
    return kept_rate([record for record in records if record.is_right], rate)


def kept_rate(records: Sequence[CallRecord], rate: float) -> float:
    """The rate that was sent: the one that was intended, unless the last calls were late.

    Args:
        records: of calls that were answered, in any order.
    """
    calls = sorted(records, key=lambda record: record.sent)
    late = [record.sent - record.intended for record in calls[-(len(calls) // 10) :]]
    if calls and min(late) <= MOST_LATE_S:
        return rate
    return len(calls) / max(calls[-1].sent if calls else 0.0, TRIED_S)

"""Traces of calls run through the real policies on a simulated machine: tiers, scaling, memory.

Called by ``wakeful scale`` and ``wakeful plan``, and for its arrivals by load tests. May import
``deployments.scaling`` and ``runtime``; never Ray.
"""

from deployments.scaling.simulation.arrivals import (
    Arrival,
    RateCurve,
    draw_arrivals,
    poisson_arrivals,
    read_arrivals,
)
from deployments.scaling.simulation.batch_times import (
    BatchCurve,
    BatchTimes,
    FunctionCosts,
    value_at,
)
from deployments.scaling.simulation.simulator import SimulatedMachine, replay
from deployments.scaling.simulation.summaries import Summary, Totals, quantile

__all__ = [
    "Arrival",
    "BatchCurve",
    "BatchTimes",
    "FunctionCosts",
    "RateCurve",
    "SimulatedMachine",
    "Summary",
    "Totals",
    "draw_arrivals",
    "poisson_arrivals",
    "quantile",
    "read_arrivals",
    "replay",
    "value_at",
]

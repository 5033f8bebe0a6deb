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
    EVEN,
    BatchCurve,
    BatchTimes,
    FunctionCosts,
    Spread,
    value_at,
)
from deployments.scaling.simulation.simulated_machine import SimulatedMachine
from deployments.scaling.simulation.simulator import replay
from deployments.scaling.simulation.summaries import Summary, Totals, quantile

__all__ = [
    "EVEN",
    "Arrival",
    "BatchCurve",
    "BatchTimes",
    "FunctionCosts",
    "RateCurve",
    "SimulatedMachine",
    "Spread",
    "Summary",
    "Totals",
    "draw_arrivals",
    "poisson_arrivals",
    "quantile",
    "read_arrivals",
    "replay",
    "value_at",
]

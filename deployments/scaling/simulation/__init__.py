"""Traces of calls run through the real policies on a simulated machine: tiers, scaling, memory.

Called by ``wakeful scale replay``. May import ``deployments.scaling`` and ``runtime``; never Ray.
"""

from deployments.scaling.simulation.arrivals import Arrival, poisson_arrivals, read_arrivals
from deployments.scaling.simulation.simulator import SimulatedMachine, Summary, Totals, replay

__all__ = [
    "Arrival",
    "SimulatedMachine",
    "Summary",
    "Totals",
    "poisson_arrivals",
    "read_arrivals",
    "replay",
]

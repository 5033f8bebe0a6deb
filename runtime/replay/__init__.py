"""Arrivals run through the policies offline: tiers, scaling, sleep and memory, with a simple model of everything else."""

from runtime.replay.model import Machine, replay
from runtime.replay.summary import Summary, Totals
from runtime.replay.trace import Arrival, poisson, read

__all__ = ["Arrival", "Machine", "Summary", "Totals", "poisson", "read", "replay"]

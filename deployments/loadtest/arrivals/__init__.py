"""When calls are sent: shapes of traffic and recorded traffic, as arrivals in the order of time.
Pure functions; called by ``generator`` and the command. May import ``deployments.scaling``.
"""

from deployments.loadtest.arrivals.shapes import (
    MOST_CALLS,
    SHAPES,
    LoadShape,
    make_arrivals,
    parse_shape,
)
from deployments.scaling.simulation import Arrival, read_arrivals

__all__ = [
    "MOST_CALLS",
    "SHAPES",
    "Arrival",
    "LoadShape",
    "make_arrivals",
    "parse_shape",
    "read_arrivals",
]

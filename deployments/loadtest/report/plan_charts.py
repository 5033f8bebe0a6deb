"""A plan drawn by matplotlib: of each function what came, what served it, what p95 was and which
share of calls found it warm.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from deployments.loadtest.report.drawing import LAYOUTS, Drawing, format_ticks, role_colour
from deployments.loadtest.report.numbers import format_ms
from deployments.loadtest.report.panels import (
    Floats,
    Panel,
    draw_panels,
    draw_steps,
    headroom,
    mark_lonely_points,
)
from deployments.scaling.planning.traffic_plan import FunctionPlan


def draw_plan(one: FunctionPlan, seconds: float, key: str) -> list[Drawing]:
    """Four panels one beneath another.

    Args:
        seconds: that were looked at.
        key: of the figure within its page; ids begin with it.
    """
    width = seconds / len(one.moments)
    starts = np.arange(len(one.moments), dtype=np.float64) * width
    p95_ms = _floats(one, "p95_s") * 1000
    bound_ms = 1000 * one.promised["p95"] if "p95" in one.promised else None

    def rate(axes: Axes) -> None:
        values = _floats(one, "rate")
        draw_steps(axes, starts, width, 0, values, "right")
        axes.set_ylim(0, headroom(values))

    def replicas(axes: Axes) -> None:
        values = _floats(one, "places")
        draw_steps(axes, starts, width, 0, values, "replicas")
        axes.set_ylim(0, max(1.0, headroom(values)))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))

    def p95(axes: Axes) -> None:
        middle = starts + width / 2
        axes.plot(middle, p95_ms, color=role_colour("p95"), gid="series-p95")
        mark_lonely_points(axes, middle, p95_ms, "p95")
        highest = headroom(p95_ms)
        if bound_ms is not None:
            axes.axhline(
                bound_ms,
                color=role_colour("p95"),
                linestyle=(0, (5, 3)),
                linewidth=1.3,
                gid="series-p95",
            )
            highest = max(highest, 1.1 * bound_ms)
        axes.set_ylim(0, highest)
        axes.yaxis.set_major_formatter(format_ticks(format_ms))

    def warm(axes: Axes) -> None:
        draw_steps(axes, starts, width, 0, 100 * _floats(one, "warm"), "now")
        axes.set_ylim(0, 105)
        axes.yaxis.set_major_formatter(format_ticks(lambda value: f"{value:.0f} %"))

    panels: list[Panel] = [
        ("Calls a second", 90.0, rate),
        ("Replicas; the host counts as one", 70.0, replicas),
        ("p95", 150.0, p95),
        ("Calls that found it warm", 62.0, warm),
    ]
    return [draw_panels(layout, panels, seconds, 0.0, key) for layout in LAYOUTS]


def _floats(one: FunctionPlan, name: str) -> Floats:
    """A number of each moment; NaN where there is none."""
    values = [getattr(moment, name) for moment in one.moments]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

"""Panels of a figure one beneath another, on one axis of time: what charts of a run and of a plan
share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from deployments.loadtest.report.drawing import (
    Drawing,
    Layout,
    add_axes,
    new_figure,
    role_colour,
    set_title,
    to_svg,
)
from deployments.loadtest.report.numbers import format_clock

Floats = NDArray[np.float64]

Panel = tuple[str, float, Callable[[Axes], None]]
"""Title, height in pixels, and what draws it."""


def draw_panels(
    layout: Layout,
    panels: Sequence[Panel],
    seconds: float,
    warm_up_s: float,
    key: str,
) -> Drawing:
    """Panels one beneath another on one axis of time.

    Args:
        key: of the figure within its page; ids begin with it.
    """
    title, bottom = 30.0, 26.0
    height = sum(size + title for _, size, _ in panels) + bottom
    width = layout.width - layout.left - layout.right
    with new_figure(layout, height) as figure:
        top = 0.0
        for number, (name, size, draw) in enumerate(panels):
            axes = add_axes(figure, layout, layout.left, top + title, width, size)
            top += title + size
            set_title(axes, name)
            axes.set_xlim(0, seconds)
            draw(axes)
            draw_time_axis(axes, seconds, layout.most_ticks, is_labelled=number == len(panels) - 1)
            if warm_up_s > 0:
                axes.axvspan(
                    0,
                    min(warm_up_s, seconds),
                    color=role_colour("warmup"),
                    alpha=0.5,
                    zorder=0,
                    lw=0,
                )
        return Drawing(
            layout.name,
            to_svg(figure, f"{key}-{layout.name}"),
            layout.left / layout.width,
            (layout.width - layout.right) / layout.width,
            seconds,
        )


def draw_steps(
    axes: Axes, starts: Floats, length_s: float, below: Any, height: Any, name: str
) -> None:
    """An area of steps, which says that a number is of a whole window."""
    edges = np.append(starts, starts[-1] + length_s)
    low = np.broadcast_to(np.nan_to_num(np.asarray(below, float)), starts.shape)
    high = low + np.nan_to_num(height)
    axes.fill_between(
        edges,
        np.append(low, low[-1]),
        np.append(high, high[-1]),
        step="post",
        color=role_colour(name),
        alpha=0.32,
        linewidth=0,
    )
    axes.step(
        edges, np.append(high, high[-1]), where="post", color=role_colour(name), linewidth=1.3
    )


def mark_lonely_points(axes: Axes, x: Any, values: Any, name: str) -> None:
    """Marks values without a neighbour, which no line shows."""
    there = np.isfinite(values)
    beside = np.zeros_like(there)
    beside[1:] |= there[:-1]
    beside[:-1] |= there[1:]
    lonely = there & ~beside
    if lonely.any():
        axes.plot(
            *(x[lonely], values[lonely], "o"),
            color=role_colour(name),
            markersize=3.5,
            markeredgewidth=0,
            gid=f"series-{name}",
        )


def headroom(values: Any) -> float:
    """The end of an axis a little above the highest value."""
    highest = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return highest * 1.18 or 1.0


def draw_time_axis(axes: Axes, seconds: float, most: int, *, is_labelled: bool) -> None:
    """Ticks of whole seconds, minutes or hours."""
    step = next(
        (
            step
            for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
            if seconds / step <= most
        ),
        86400,
    )
    ticks = np.arange(0, seconds + step * 0.01, step)
    axes.set_xticks(
        ticks, [format_clock(tick, seconds) if is_labelled else "" for tick in ticks.tolist()]
    )

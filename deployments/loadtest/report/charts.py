"""Views of a run drawn by matplotlib: latency over time and what the server did beneath, the
distribution, the generator.

No text of a server or of a declaration is drawn: matplotlib reads ``$`` as mathematics, and such
texts belong where HTML escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from deployments.loadtest.report.aggregates import FunctionView, GeneratorView, LatencyDistribution
from deployments.loadtest.report.drawing import (
    FONT_SIZE,
    LAYOUTS,
    Drawing,
    Layout,
    add_axes,
    format_ticks,
    new_figure,
    role_colour,
    set_title,
    to_svg,
)
from deployments.loadtest.report.numbers import format_ms
from deployments.loadtest.report.panels import (
    Panel,
    draw_panels,
    draw_steps,
    headroom,
    mark_lonely_points,
)
from deployments.loadtest.results.records import Promise

DOT, DOT_COLD, DOT_FAILED = "#6f95d6", "#d99a2b", "#e0526b"
"""Of single calls, which are a picture within the SVG, and so have one colour in light and dark."""

LOG_FROM: Final = 25.0
"""Highest over lowest latency from which the axis is logarithmic."""


def draw_over_time(view: FunctionView, warm_up_s: float, key: str) -> list[Drawing]:
    """Latency, calls, replicas with wakes, queue and batches, one beneath another on one axis of
    time.

    Args:
        key: of the figure within its page; ids begin with it.
    """
    windows = view.windows
    panels: list[Panel] = [
        ("Latency of right answers", 250, lambda axes: _latency(axes, view)),
        ("Calls a second", 78, lambda axes: _calls(axes, view)),
    ]
    if np.isfinite(windows.replicas).any():
        panels += [
            ("Replicas, and wakes ▲", 62, lambda axes: _replicas(axes, view)),
            ("Rows that wait", 62, lambda axes: _queue(axes, view)),
        ]
    if np.isfinite(windows.batch_rows).any():
        panels.append(("Rows in a batch", 62, lambda axes: _batches(axes, view)))
    end = float(windows.starts[-1] + windows.length_s)
    return [draw_panels(layout, panels, end, warm_up_s, key) for layout in LAYOUTS]


def draw_generator(view: GeneratorView, key: str) -> list[Drawing]:
    """How late the generator sent, and what it used."""
    x = view.starts + view.length_s / 2

    def lag(axes: Axes) -> None:
        axes.plot(x, view.lag_ms, color=role_colour("lag"), gid="series-lag")
        axes.set_ylim(0, max(1.0, float(np.nanmax(view.lag_ms)) * 1.15))
        axes.yaxis.set_major_formatter(format_ticks(format_ms))

    def cpu(axes: Axes) -> None:
        axes.fill_between(x, view.cpu * 100, color=role_colour("cpu"), alpha=0.25, linewidth=0)
        axes.plot(x, view.cpu * 100, color=role_colour("cpu"), gid="series-cpu")
        axes.set_ylim(0, 105)
        axes.yaxis.set_major_formatter(format_ticks(lambda value: f"{value:.0f} %"))

    panels: list[Panel] = [("Lag, the longest", 70.0, lag), ("Of one core", 62.0, cpu)]
    end = float(view.starts[-1] + view.length_s)
    return [draw_panels(layout, panels, end, 0.0, key) for layout in LAYOUTS]


def draw_distribution(
    now: LatencyDistribution, promise: Promise, key: str, before: LatencyDistribution | None = None
) -> list[Drawing]:
    """How many calls took how long, and which percentile took how long; of an earlier run as a line
    of its own.
    """
    drawings = []
    for layout in LAYOUTS:
        is_wide = layout.name == "wide"
        height = 270.0 if is_wide else 470.0
        with new_figure(layout, height) as figure:
            gap = 70.0
            if is_wide:
                half = (layout.width - layout.left - 24 - gap) / 2
                left = add_axes(figure, layout, layout.left, 34, half, 200)
                right = add_axes(figure, layout, layout.left + half + gap, 34, half, 200)
            else:
                whole = layout.width - layout.left - 14
                left = add_axes(figure, layout, layout.left, 34, whole, 170)
                right = add_axes(figure, layout, layout.left, 268, whole, 170)
            set_title(left, "How long calls took")
            _histogram(left, now, promise, before, layout)
            set_title(right, "Latency by percentile")
            _ranks(right, now, before, layout)
            drawings.append(
                Drawing(layout.name, to_svg(figure, f"{key}-{layout.name}"), 0.0, 1.0, 0.0)
            )
    return drawings


def _latency(axes: Axes, view: FunctionView) -> None:
    windows, dots = view.windows, view.dots
    x = windows.starts + windows.length_s / 2
    shown = dots.latency_ms[~dots.has_failed]
    limits = {
        rank: limit
        for rank, limit in zip(
            windows.percentiles,
            (
                view.promise.latency_p50_ms,
                view.promise.latency_p95_ms,
                view.promise.latency_p99_ms,
            ),
            strict=True,
        )
        if limit is not None
    }
    values = np.concatenate([shown[shown > 0], list(limits.values()), [1.0]])
    if len(shown):
        values = values[:-1]
    lowest, highest = float(values.min()), float(values.max())
    if highest / lowest > LOG_FROM:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.3, highest * 1.5)
        if highest / lowest < 400:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axes.set_ylim(0, highest * 1.12)
    axes.yaxis.set_major_formatter(format_ticks(format_ms))
    axes.yaxis.set_minor_formatter(format_ticks(lambda _: ""))
    for chosen, colour, size in (
        (~dots.has_failed & ~dots.was_cold, DOT, 3.0),
        (dots.was_cold & ~dots.has_failed, DOT_COLD, 9.0),
        (dots.has_failed, DOT_FAILED, 6.0),
    ):
        axes.scatter(
            dots.at[chosen],
            np.maximum(dots.latency_ms[chosen], lowest / 1.2),
            *(size, colour),
            alpha=0.35 if colour == DOT else 0.8,
            linewidths=0,
            rasterized=True,
            zorder=1.5,
        )
    for rank, latencies in windows.percentiles.items():
        name = f"p{rank:.0f}"
        axes.plot(
            x, latencies, color=role_colour(name), gid=f"series-{name}", linewidth=1.8, zorder=3
        )
        mark_lonely_points(axes, x, latencies, name)
    places = _apart([_height_of(axes, limit) for limit in limits.values()])
    for (rank, limit), place in zip(limits.items(), places, strict=True):
        name = f"p{rank:.0f}"
        axes.axhline(
            limit,
            color=role_colour(name),
            linestyle=(0, (5, 3)),
            linewidth=1.3,
            gid=f"series-{name}",
        )
        axes.annotate(
            f"{name} ≤ {format_ms(limit).split()[0]}",
            (1.0, place),
            xytext=(5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=role_colour(name),
            va="center",
            fontsize=FONT_SIZE - 1.5,
            gid=f"series-{name}",
        )


def _height_of(axes: Axes, value: float) -> float:
    """Where a value lies on the axis of y, from 0 to 1."""
    place = axes.transData.transform((0, value))
    return float(axes.transAxes.inverted().transform(place)[1])


def _apart(places: Sequence[float], least: float = 0.06) -> list[float]:
    """Places of labels, moved up as far as they would cover one another."""
    moved = list(places)
    below = -1.0
    for number in sorted(range(len(places)), key=places.__getitem__):
        below = moved[number] = max(moved[number], below + least)
    return moved


def _calls(axes: Axes, view: FunctionView) -> None:
    windows = view.windows
    right, failed = windows.right / windows.length_s, windows.failed / windows.length_s
    _bars(axes, view, failed, right, "right")
    if failed.any():
        _bars(axes, view, 0, failed, "failed")
    axes.set_ylim(0, headroom(right + failed))


def _replicas(axes: Axes, view: FunctionView) -> None:
    windows = view.windows
    _bars(axes, view, 0, windows.replicas, "replicas")
    axes.set_ylim(0, max(1.0, headroom(windows.replicas)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    woken = windows.wakes > 0
    if woken.any():
        axes.plot(
            windows.starts[woken] + windows.length_s / 2,
            np.full(int(woken.sum()), axes.get_ylim()[1] * 0.16),
            "^",
            color=role_colour("wake"),
            markersize=8,
            markeredgewidth=0,
            zorder=4,
        )


def _bars(axes: Axes, view: FunctionView, below: Any, height: Any, name: str) -> None:
    draw_steps(axes, view.windows.starts, view.windows.length_s, below, height, name)


def _queue(axes: Axes, view: FunctionView) -> None:
    _bars(axes, view, 0, view.windows.waiting_rows, "queue")
    axes.set_ylim(0, max(1.0, headroom(view.windows.waiting_rows)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _batches(axes: Axes, view: FunctionView) -> None:
    windows = view.windows
    x = windows.starts + windows.length_s / 2
    axes.plot(x, windows.batch_rows, color=role_colour("batch"))
    mark_lonely_points(axes, x, windows.batch_rows, "batch")
    axes.set_ylim(0, max(1.0, headroom(windows.batch_rows)))


def _histogram(
    axes: Axes,
    now: LatencyDistribution,
    promise: Promise,
    before: LatencyDistribution | None,
    layout: Layout,
) -> None:
    axes.stairs(
        now.shares * 100, now.edges, fill=True, color=role_colour("now"), alpha=0.4, linewidth=0
    )
    axes.stairs(now.shares * 100, now.edges, color=role_colour("now"), linewidth=1.3)
    highest = float(now.shares.max())
    if before is not None:
        axes.stairs(before.shares * 100, before.edges, color=role_colour("before"), linewidth=1.5)
        highest = max(highest, float(before.shares.max()))
    axes.set_xscale("log")
    axes.set_ylim(0, highest * 118)
    axes.yaxis.set_major_formatter(format_ticks(lambda value: f"{value:g} %"))
    _latency_ticks(axes.xaxis, now, before, 7 if layout.name == "wide" else 5)
    for name, limit in (
        ("p50", promise.latency_p50_ms),
        ("p95", promise.latency_p95_ms),
        ("p99", promise.latency_p99_ms),
    ):
        low, high = axes.get_xlim()
        if limit is not None and low <= limit <= high:
            axes.axvline(limit, color=role_colour(name), linestyle=(0, (5, 3)), linewidth=1.3)


def _latency_ticks(
    axis: Any, now: LatencyDistribution, before: LatencyDistribution | None, most: int
) -> None:
    """Ticks 1, 2, 5 where the axis is short, tens where it is long."""
    lowest = min(now.edges[0], before.edges[0] if before else np.inf)
    highest = max(now.edges[-1], before.edges[-1] if before else 0.0)
    ticks = [
        digit * 10.0**power
        for power in range(-4, 9)
        for digit in (1, 2, 5)
        if lowest <= digit * 10.0**power <= highest
    ]
    if len(ticks) > most:
        tens = [tick for tick in ticks if f"{tick:e}".startswith("1")]
        ticks = tens if len(tens) > 1 else ticks[::2]
    axis.set_ticks(ticks)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(format_ticks(format_ms))
    axis.set_view_interval(lowest, highest, ignore=True)


def _ranks(
    axes: Axes, now: LatencyDistribution, before: LatencyDistribution | None, layout: Layout
) -> None:
    """The axis of percentiles is logarithmic towards 100, so that the tail has room."""
    for told, name in ((before, "before"), (now, "now")):
        if told is not None:
            axes.plot(
                -np.log10(1 - told.ranks / 100),
                told.latencies,
                color=role_colour(name),
                linewidth=1.8,
            )
    axes.set_yscale("log")
    _latency_ticks(axes.yaxis, now, before, 7)
    furthest = -np.log10(1 - float(now.ranks[-1]) / 100)
    ticks = [rank for rank in (0, 50, 90, 99, 99.9, 99.99) if -np.log10(1 - rank / 100) <= furthest]
    axes.set_xticks([-np.log10(1 - rank / 100) for rank in ticks], [f"p{rank:g}" for rank in ticks])
    axes.set_xlim(0, furthest)

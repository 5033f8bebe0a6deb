"""Figures of matplotlib as SVG for a page that has light and dark colours.

The page's style sheet gives the colours: each role (``p95``, ``grid``) is drawn in a colour that
stands for it alone, and the text of the SVG then names the role's variable in its place. What can
be switched off is a class ``series-NAME``. Each figure is drawn for two widths, since a wide one on
a phone cannot be read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

ROLES: Final = (
    *("ink", "grid", "p50", "p95", "p99", "right", "failed", "replicas", "wake", "queue"),
    *("batch", "lag", "cpu", "before", "now", "warmup"),
)
"""Each is a variable ``--ROLE`` of the style sheet."""

FONT_SIZE: Final = 11.5

RASTER_DPI: Final = 130
"""Of clouds of single calls, which are pictures within the SVG."""

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: it is small, can be found, and has the page's font
    "svg.hashsalt": "wakeful",
    "font.size": FONT_SIZE,
    "lines.linewidth": 1.6,
    "lines.solid_joinstyle": "round",
    "axes.titlepad": 7.0,
    "axes.xmargin": 0.0,
    "path.simplify": True,
    "axes.formatter.use_mathtext": False,
    "text.usetex": False,
}
NO_METADATA: Final = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in CSS pixels, which are points in the SVG.

    Attributes:
        left, right: margins beside the axes.
        most_ticks: of the axis of time.
    """

    name: str
    width: float
    left: float
    right: float
    most_ticks: int


LAYOUTS: Final = (Layout("wide", 1080, 52, 66, 10), Layout("narrow", 372, 42, 50, 5))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure.

    Attributes:
        layout: its name.
        svg: markup that is safe in HTML.
        left, right: where the axis of time begins and ends, in shares of the width.
        seconds: that lie between them; 0: it has no axis of time.
    """

    layout: str
    svg: str
    left: float = 0.0
    right: float = 1.0
    seconds: float = 0.0


@contextmanager
def new_figure(layout: Layout, height: float) -> Iterator[Figure]:
    """An empty figure; what is drawn and written within the block has the report's style."""
    with rc_context(STYLE):
        figure = Figure(figsize=(layout.width / 72, height / 72))
        FigureCanvasSVG(figure)
        yield figure


def add_axes(
    figure: Figure, layout: Layout, left: float, top: float, width: float, height: float
) -> Axes:
    """Axes by their place from the top left corner, in pixels."""
    whole = figure.get_figheight() * 72
    axes = figure.add_axes(
        (left / layout.width, 1 - (top + height) / whole, width / layout.width, height / whole)
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(role_colour("grid"))
    axes.grid(True, color=role_colour("grid"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(
        length=0, labelsize=FONT_SIZE - 1.5, labelcolor=role_colour("ink"), which="both", pad=5
    )
    axes.patch.set_visible(False)
    axes.locator_params(axis="y", nbins=4)
    return axes


def set_title(axes: Axes, text: str) -> None:
    """A title above the axes, at the left."""
    axes.set_title(
        text, loc="left", fontsize=FONT_SIZE, fontweight="bold", color=role_colour("ink")
    )


def role_colour(name: str) -> str:
    """The colour that stands for a role until the SVG is embedded."""
    return f"#0000{ROLES.index(name) + 1:02x}"


def format_ticks(words: Callable[[float], str]) -> FuncFormatter:
    """Ticks that are told by a function of their value."""
    return FuncFormatter(lambda value, _: words(value))


def to_svg(figure: Figure, key: str) -> str:
    """The figure as markup whose ids begin with a key, so that several fit on one page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, dpi=RASTER_DPI, metadata=NO_METADATA)
    return _embed(text.getvalue(), key)


def _embed(svg: str, key: str) -> str:
    """Takes away what only a file of its own needs, and has the page decide colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would be of the whole page
    svg = re.sub(r' id="(series-[a-z0-9]+)"', r' class="\1"', svg)
    named = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in named else "", svg
    )
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font-size: \1px", svg)
    svg = svg.replace("<image ", '<image class="series-dots" ')
    svg = re.sub(
        r"#0000([0-9a-f]{2})(?=[;\"])", lambda found: _variable(int(found[1], 16), found[0]), svg
    )
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height|version)="[^"]*"', "", head)
    head += ' role="presentation" aria-hidden="true" focusable="false">'
    rest = re.sub(r"<g(?: class=\"[^\"]*\")?/>", "", re.sub(r"\s*\n\s*", "\n", rest))
    rest = re.sub(r' transform="rotate\(-0 [^"]*"', "", rest)
    return head + re.sub(r"(?<=\d\.\d)\d+(?=[\s\"])", "", rest)


def _variable(number: int, otherwise: str) -> str:
    return f"var(--{ROLES[number - 1]})" if 1 <= number <= len(ROLES) else otherwise

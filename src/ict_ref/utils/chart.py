"""Reproducible PNG and SVG drawings of a figure by matplotlib, and its points as CSV."""

import csv
import io
import itertools
import re
import textwrap
from typing import NamedTuple

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import StrMethodFormatter

from ict_ref.utils.panel import Figure, Panel

SUFFIXES = (".csv", ".svg", ".png")
# The palette of Okabe and Ito for colour-blind readers, without yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Curves after the last colour reuse the colours with dashed lines.
DASHES = ("-", "--", ":")
MARKERS = "osD^vPX"
# Lengths in inches, and caption letters per inch.
PANEL, LEGEND, HEIGHT, LINE, LETTERS = 4.2, 1.9, 3.7, 0.17, 14
STYLE: dict[str, object] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "ict_ref",
}
# ASCII names become typographic symbols; no-break spaces keep expressions on one line of a caption.
SIGNS = (
    (r"\bsigma'", "\N{GREEK SMALL LETTER SIGMA}\N{PRIME}"),
    (r"\bsigma\b", "\N{GREEK SMALL LETTER SIGMA}"),
    (r"\bl1\b", "\N{SCRIPT SMALL L}\N{SUBSCRIPT ONE}"),
    (r"\bl2\b", "\N{SCRIPT SMALL L}\N{SUBSCRIPT TWO}"),
    (r"\^2\b", "\N{SUPERSCRIPT TWO}"),
    (r"(?<= )-(?=[ \d])", "\N{MINUS SIGN}"),
    (r"\b(log|Eq\.|Eqs\.|Fig\.|Section) ", "\\1\N{NO-BREAK SPACE}"),
    (r" (=|\N{MINUS SIGN}|<|>) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}"),
)


class Look(NamedTuple):
    """The style of a curve in matplotlib's terms."""

    colour: str
    line: str
    marker: str
    inside: str
    """Fill colour of the markers."""


def files(figure: Figure) -> dict[str, bytes]:
    """Return the content of each file of the figure by suffix; equal figures give equal bytes."""
    # The explicit style overrides the user's matplotlibrc.
    with matplotlib.style.context(["default", STYLE]):
        drawing = drawn(figure)
        about = {"Title": figure.words.partition(". ")[0], "Description": figure.caption}
        png, svg = io.BytesIO(), io.BytesIO()
        drawing.savefig(png, format="png", metadata={**about, "Software": None})
        drawing.savefig(svg, format="svg", metadata={**about, "Date": None, "Creator": None})
    return dict(zip(SUFFIXES, (table(figure).encode(), svg.getvalue(), png.getvalue()), strict=True))


def table(figure: Figure) -> str:
    """Return the points of all curves as CSV in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("panel", "curve", "x", "y"))
    for panel in figure.panels:
        for curve, points in panel.curves.items():
            writer.writerows((panel.title, curve, repr(x), repr(y)) for x, y in points)
    return text.getvalue()


def drawn(figure: Figure) -> Drawing:
    """Return a drawing with the panels side by side, the legend on their right and the caption below."""
    count = len(figure.panels)
    width = PANEL * count + LEGEND
    caption = textwrap.fill(typeset(figure.words), round(LETTERS * width))
    drawing = Drawing((width, HEIGHT + LINE * (caption.count("\n") + 1)), layout="constrained")
    FigureCanvasAgg(drawing)
    looks = looks_of(figure)
    for axes, panel in zip(drawing.subplots(1, count, squeeze=False)[0], figure.panels, strict=True):
        draw_panel(axes, panel, looks)
    legend = {line.get_label(): line for axes in drawing.axes for line in axes.lines}
    if len(legend) > 1:
        drawing.legend(handles=list(legend.values()), loc="outside right upper")
    drawing.supxlabel(caption, x=0.01, ha="left", fontsize=9, linespacing=1.3)
    return drawing


def draw_panel(axes: Axes, panel: Panel, looks: dict[str, Look]) -> None:
    """Draw the curves in their styles, and label the axes."""
    for name, points in panel.curves.items():
        x, y = ([point[axis] for point in points] for axis in (0, 1))
        look = looks[name]
        drawing = axes.plot(x, y, color=look.colour, linestyle=look.line, marker=look.marker, label=typeset(name))
        drawing[0].set_markerfacecolor(look.inside)
    axes.set_title(typeset(panel.title))
    axes.set_xlabel(typeset(panel.x))
    axes.set_ylabel(typeset(panel.y))
    axes.set_xscale(panel.x_scale)
    axes.set_yscale(panel.y_scale)
    if panel.x_scale == "linear" and max(axes.get_xlim()) >= 10_000:
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def looks_of(figure: Figure) -> dict[str, Look]:
    """Return the style of each curve, the same in all panels; dots reuse the colours of the lines in order."""
    lines, dots = itertools.cycle(itertools.product(DASHES, COLOURS)), itertools.cycle(COLOURS)
    markers = itertools.cycle(MARKERS)
    looks: dict[str, Look] = {}
    for panel in figure.panels:
        for name in panel.curves:
            if name in looks:
                continue
            if name in panel.dots:
                looks[name] = Look(next(dots), "", "o", "white")
            else:
                dash, colour = next(lines)
                looks[name] = Look(colour, dash, next(markers) if name in panel.marks else "", colour)
    return looks


def typeset(text: str) -> str:
    """Return the text with typographic symbols."""
    for pattern, sign in SIGNS:
        text = re.sub(pattern, sign, text)
    return text

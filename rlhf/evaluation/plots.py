"""Curves as inline SVG. Colours are CSS variables of the page, so one drawing serves light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlhf.evaluation.statistics import Estimate

# matplotlib draws with these stand-ins; each becomes a variable of style.css.
_INK, _FAINT, _GRID, _PAGE = "#010101", "#010102", "#010103", "#010104"
_SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116", "#010117", "#010118")
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _GRID: "--grid", _PAGE: "--page"} | {
    stand_in: f"--series-{i}" for i, stand_in in enumerate(_SERIES, start=1)
}
_STYLE: Any = {  # matplotlib's own type for settings differs between its versions
    "svg.fonttype": "none",  # text stays text: it takes the page's font, and can be searched
    "text.parse_math": False,  # a run may be called `$5`
    "font.size": 10.5,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _FAINT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _FAINT,
    "ytick.labelcolor": _FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "legend.fontsize": 10,
}


@dataclass(frozen=True)
class Line:
    """One curve: figures by step; None breaks the line where a figure was not a number."""

    label: str
    steps: Sequence[int]
    values: Sequence[float | None]


def curves(lines: Sequence[Line], *, unit: str, description: str) -> Markup:
    """Lines over steps, with a legend where there are several. Long noisy ones get a running mean on top."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.35), layout="constrained")
        axes = figure.add_subplot()
        for i, line in enumerate(lines):
            _draw(axes, line, _SERIES[i % len(_SERIES)])
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.01, y=0.12)
        _show_level(axes, {value for line in lines for value in line.values if value is not None})
        if len(lines) > 1:
            figure.legend(loc="outside upper left", ncols=min(3, len(lines)), handlelength=1.2, columnspacing=1.2)
        return _svg(figure, description)


def _show_level(axes: Axes, values: set[float]) -> None:
    """Where all figures are one, the axis holds zero too: matplotlib's own would zoom into its last digits."""
    if len(values) != 1:
        return
    (value,) = values
    far = 2 * value or 1.0
    axes.set_ylim(min(0.0, far), max(0.0, far))
    for drawn in axes.lines:
        drawn.set_clip_on(False)  # a line at zero lies on the edge


def interval_plot(rows: Mapping[str, Sequence[tuple[str, Estimate]]], *, description: str) -> Markup:
    """A dot with its interval for each label of each row, on a common scale from 0 to 1."""
    labels = list(dict.fromkeys(label for row in rows.values() for label, _ in row))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 0.8 + 0.42 * len(rows) + 0.1 * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        colours = _dot_colours(labels)
        for i, label in enumerate(labels):
            offset = (i - (len(labels) - 1) / 2) * min(0.26, 0.7 / len(labels))
            _dots(axes, rows, label, offset, colours[label])
        axes.set_yticks(range(len(rows)), list(rows))
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(0, 1.02)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("score, with 95 % interval")
        figure.legend(loc="outside upper left", ncols=min(3, len(labels)), handlelength=1.0)
        return _svg(figure, description)


def _dot_colours(labels: Sequence[str]) -> dict[str, str]:
    """Grey for where a model came from, the series' colours for the rest."""
    others = [label for label in labels if label != "before"]
    return {"before": _FAINT} | {label: _SERIES[i % len(_SERIES)] for i, label in enumerate(others)}


def _draw(axes: Axes, line: Line, colour: str) -> None:
    values = [math.nan if value is None else value for value in line.values]
    window = max(1, len(values) // 15)
    if window < 3:
        marker = "o" if len(values) < 2 else None
        axes.plot(line.steps, values, color=colour, linewidth=1.6, marker=marker, markersize=4, label=line.label)
        return
    axes.plot(line.steps, values, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(line.steps, _running_mean(values, window), color=colour, linewidth=1.7, label=line.label)


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of about `window` figures around each, fewer at the ends; figures that are no numbers are left out."""
    reach = window // 2
    means = []
    for i in range(len(values)):
        near = [value for value in values[max(0, i - reach) : i + reach + 1] if not math.isnan(value)]
        means.append(sum(near) / len(near) if near else math.nan)
    return means


def _dots(
    axes: Axes, rows: Mapping[str, Sequence[tuple[str, Estimate]]], label: str, offset: float, colour: str
) -> None:
    found = [(y + offset, e) for y, row in enumerate(rows.values()) for name, e in row if name == label]
    heights = [y for y, _ in found]
    axes.hlines(
        heights, [max(0.0, e.low) for _, e in found], [min(1.0, e.high) for _, e in found],
        color=colour, linewidth=1.8, alpha=0.55,
    )  # fmt: skip
    axes.plot([e.value for _, e in found], heights, "o", color=colour, markersize=5.5, label=label)


def _svg(figure: Figure, description: str) -> Markup:
    """The figure as an element of the page: no prologue, no ids of groups, the same bytes every time."""
    buffer = io.StringIO()
    # The salt makes ids reproducible; the description keeps those of two drawings on one page apart.
    with mpl.rc_context({"svg.hashsalt": description}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'font-family: [^;"]*; ?', "", text)  # the family is the page's
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    label = str(Markup.escape(description))
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704 - matplotlib escapes

"""Draws the curves of a run. Series of numbers in, SVG elements for a web page out.

The same numbers give the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.drawing import INK, drawing, to_svg

Points = Sequence[tuple[float, float]]
"""(step, value), oldest first."""

_COLOURS = ("#2f7ed8", "#e08214", "#2ca05a", "#c94f7c", "#8d6bd1", "#6f8f9f", "#b0892f", "#d6604d")
_SIZE_IN = 5.2, 2.9


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing: some series over the steps of the run."""

    title: str
    unit: str
    """What the numbers are, beside the axis."""
    series: Mapping[str, Points] = field(default_factory=dict)
    logarithmic: bool = False
    marks: Sequence[float] = ()
    """Values worth a line across, for example what is perfect."""


def draw(chart: Chart, best_step: float | None = None) -> str:
    """The `<svg>` element of `chart`, a dotted line at `best_step`; an empty text when there is nothing to draw."""
    from matplotlib.figure import Figure

    series = {name: points for name, points in chart.series.items() if points}
    if not series:
        return ""
    with drawing(chart.title):
        figure = Figure(figsize=_SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        for (name, points), colour in zip(series.items(), _COLOURS * (len(series) // len(_COLOURS) + 1), strict=False):
            marker = "o" if len(points) < 3 else None
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=colour, label=name, linewidth=1.4, marker=marker, markersize=3)
        for value in chart.marks:
            axes.axhline(value, color=INK, linewidth=0.6, alpha=0.5)
        if best_step is not None:
            axes.axvline(best_step, color=INK, linewidth=0.8, linestyle=":", alpha=0.7)
        if chart.logarithmic and all(value > 0 for points in series.values() for _, value in points):
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(chart.unit, parse_math=False)
        axes.grid(color=INK, alpha=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            legend = axes.legend(frameon=False, fontsize=8, ncols=2 if len(series) > 3 else 1)
            for text in legend.get_texts():
                text.set_parse_math(False)
        return to_svg(figure)

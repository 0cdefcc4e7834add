"""Draws what a coverage found. Coverage in; matplotlib figures, and pairs of faces, out.

Maps are drawn as the camera sees: left is the left of the image, up is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8
from training.coverage import WEIGHTS, Coverage, scaled
from training.coverage_facts import EXPRESSION, LIGHT, Floats, SetFacts
from training.drawing import INK
from training.faceset import Faceset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IDENTITY, PERFORMER, MISSING = "#2f7ed8", "#e08214", "#d6302f"
"""Colours of the two people, and of what one has and the other lacks."""
CELL_DEG, REACH_DEG = 5.0, 60.0
"""Sides of the cells of the pose map, and how far it goes."""
_UNCOVERED = 2.5
"""Units from which on a frame is marked as missing."""
_TILE_PX = 176
_APART = 3.0
"""Units by which two of the worst frames differ at least."""


def pose_map(found: Coverage) -> Figure:
    """How often both people look where, and where only the performer does."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    lacking = found.distances["pose"] > _UNCOVERED
    for axes, facts, colour, who in (
        (left, found.identity, IDENTITY, "identity"),
        (right, found.performer, PERFORMER, "performer"),
    ):
        counts = _cells(facts.pose)
        _shade(axes, counts, colour)
        axes.set_title(f"Where the {who} looks, {len(facts)} faces", fontsize=9)
        axes.set_xlabel("degrees to the left or right in the image")
        axes.axhline(0, color=INK, linewidth=0.5, alpha=0.3)
        axes.axvline(0, color=INK, linewidth=0.5, alpha=0.3)
    if lacking.any():
        x, y = _as_seen(found.performer.pose[lacking])
        label = f"{100 * lacking.mean():.0f} % where the identity does not look"
        for axes in (left, right):
            axes.scatter(x, y, s=7, color=MISSING, linewidths=0, alpha=0.7, label=label if axes is right else None)
        right.legend(loc="lower right", fontsize=7.5, frameon=False)
    left.set_ylabel("degrees down (-) or up (+)")
    return figure


def _as_seen(pose: Floats) -> tuple[Floats, Floats]:
    """Degrees to the right in the image and up, of (N, 2) yaw and pitch."""
    return -pose[:, 0], -pose[:, 1]


def _cells(pose: Floats) -> NDArray[np.float64]:
    """(rows, columns) share of faces in each cell, row 0 the lowest."""
    edges = np.arange(-REACH_DEG, REACH_DEG + CELL_DEG / 2, CELL_DEG)
    x, y = (np.clip(values, -REACH_DEG + 0.01, REACH_DEG - 0.01) for values in _as_seen(pose))
    counts, _, _ = np.histogram2d(y, x, bins=(edges, edges))
    return np.asarray(counts / max(len(pose), 1), np.float64)


def _shade(axes: Axes, counts: NDArray[np.float64], colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    clear = LinearSegmentedColormap.from_list("clear", [f"{colour}00", f"{colour}ff"])
    shown = np.sqrt(counts / max(counts.max(), 1e-9))  # rare cells are what this is about
    axes.imshow(
        shown, origin="lower", extent=(-REACH_DEG, REACH_DEG, -REACH_DEG, REACH_DEG), cmap=clear, vmin=0, vmax=1
    )
    axes.set_ylim(-40, 40)


def light_map(found: Coverage) -> Figure:
    """From where both faces are lit, and in which brightness and colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    sides, tones = figure.subplots(1, 2)
    right, down, level, warmth = (LIGHT.index(name) for name in LIGHT)
    for facts, colour, who in _both(found):
        light = facts.light
        sides.scatter(light[:, right], -light[:, down], s=6, color=colour, alpha=0.45, linewidths=0, label=who)
        tones.scatter(light[:, warmth], light[:, level], s=6, color=colour, alpha=0.45, linewidths=0, label=who)
    sides.set(xlabel="light from the left (-) or right (+) of the image", ylabel="from below (-) or above (+)")
    tones.set(xlabel="colder (left) or warmer (right), stops of red over blue", ylabel="darker or brighter, stops")
    for axes, title in ((sides, "Where the light comes from"), (tones, "Brightness and colour of the light")):
        axes.set_title(title, fontsize=9)
        axes.grid(color=INK, alpha=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, markerscale=2)
    return figure


def expression_map(found: Coverage) -> Figure:
    """How far both people open and move what, side by side."""
    from matplotlib.figure import Figure

    titles = {
        "mouth": "Mouth: shut to open",
        "width": "Mouth: round to wide",
        "eyes": "Eyes: shut to open",
        "brows": "Brows: low to raised",
    }
    figure = Figure(figsize=(10.4, 2.6), layout="constrained")
    for axes, (column, name) in zip(figure.subplots(1, 4), enumerate(EXPRESSION), strict=True):
        both = np.concatenate([found.identity.expression[:, column], found.performer.expression[:, column]])
        low, high = np.percentile(both, (0.2, 99.8)).tolist()
        edges = np.linspace(low, high + 1e-6, 25)
        for facts, colour, who in _both(found):
            values = np.clip(facts.expression[:, column], edges[0], edges[-1])
            axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.5, label=who)
        axes.set_title(titles[name], fontsize=9)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def risk_line(found: Coverage) -> Figure:
    """The risk of the performer's frames over time, and what it consists of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.risk, color=INK, linewidth=0.9, label="risk")
    colours = {"pose": MISSING, "expression": "#2ca05a", "light": PERFORMER, "detail": "#8d6bd1"}
    for cause in WEIGHTS:
        if found.loss(cause) >= 0.01:
            axes.plot(found.costs[cause], color=colours[cause], linewidth=0.8, alpha=0.8, label=cause)
    axes.set(xlabel="the performer's faces, in their order", ylabel="share of the swap", ylim=(0, 1))
    axes.set_xlim(0, max(len(found.performer) - 1, 1))
    axes.grid(color=INK, alpha=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=5)
    return figure


def _both(found: Coverage) -> tuple[tuple[SetFacts, str, str], ...]:
    return (found.identity, IDENTITY, "identity"), (found.performer, PERFORMER, "performer")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One of the performer's worst frames beside the best that the identity has for it."""

    performer: ImageU8
    identity: ImageU8
    """Both (_TILE_PX, _TILE_PX, 3) BGR."""
    risk: float
    cause: str
    """The axis that costs it most."""
    frame: int
    """Number in the performer's set."""
    nearest: int
    """Number in the identity's set."""


def worst_pairs(found: Coverage, identity: Faceset, performer: Faceset, most: int = 8) -> list[Pair]:
    """Up to `most` of the riskiest frames that do not look alike. Raises FacesetError when a crop cannot be read."""
    pairs = []
    for row in _unlike(found, most):
        cause = max(WEIGHTS, key=lambda axis: float(found.costs[axis][row]))
        axis = cause if cause in found.nearest else "together"
        frame = int(found.performer.index[row])
        nearest = int(found.identity.index[found.nearest[axis][row]])
        pictures = (_tile(performer, frame), _tile(identity, nearest))
        pairs.append(Pair(*pictures, float(found.risk[row]), cause, frame, nearest))
    return pairs


def _unlike(found: Coverage, most: int) -> list[int]:
    """Rows, the riskiest first, no two of which look alike."""
    looks = scaled(found.performer)["together"]
    rows: list[int] = []
    for row in np.argsort(-found.risk, kind="stable").tolist():
        if len(rows) == most:
            break
        if all(float(np.linalg.norm(looks[row] - looks[other])) > _APART for other in rows):
            rows.append(row)
    return rows


def _tile(faceset: Faceset, number: int) -> ImageU8:
    crop = faceset.image(number)
    edge = round(crop.shape[0] * (1 - 1 / faceset.margin) / 2)
    inner = crop[edge : crop.shape[0] - edge, edge : crop.shape[0] - edge]
    return np.asarray(cv2.resize(inner, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def pair_sheet(pairs: Sequence[Pair]) -> ImageU8:
    """All pairs as one picture: the performer above, the identity below. Raises ValueError when there is none."""
    columns = [np.vstack([pair.performer, pair.identity]) for pair in pairs]
    if not columns:
        raise ValueError("there is no pair to draw")
    return np.asarray(np.hstack(columns), np.uint8)

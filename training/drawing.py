"""Turns matplotlib's figures into what a page or a folder holds. A figure in, an SVG element or the bytes of a PNG out.

Ink is `currentColor`, the background is left out and sizes are left to the page, so that one drawing serves light and
dark pages, screens and phones. The same figure gives the same text.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the text colour of the page; no other colour of a drawing equals it."""


@contextlib.contextmanager
def drawing(seed: str) -> Iterator[None]:
    """Within it, figures are drawn and written in ink; `seed` names the parts of an SVG, unlike on one page."""
    import matplotlib

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": seed,
            "font.size": 9.0,
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    ):
        yield


def to_svg(figure: Figure) -> str:
    """The `<svg>` element of a figure, as wide as the page gives it room."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    document = file.getvalue().decode()
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    head, rest = element.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f"{head}>{rest}".replace(INK, "currentColor").strip()


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """The bytes of a PNG of a figure on white."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    return file.getvalue()

"""Shows what every preset costs and gives. Rows in, a table for people out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table

from training.presets import PresetRow

WIDTH = 160
"""Characters."""


def preset_table(rows: Sequence[PresetRow]) -> str:
    """A line for each preset and each machine that it was measured on, and what each preset is for."""
    table = Table(caption="parameters: of a swap / trained; memory: of training, without the faces")
    table.add_column("preset", no_wrap=True)
    for title in ("px", "GMAC", "parameters", "memory", "time and steps", "transfer, SSIM"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("machine")
    for row in rows:
        parameters = f"{row.swap_parameters / 1e6:.1f} / {row.parameters / 1e6:.1f} M"
        head: tuple[str, ...] = (row.name, str(row.resolution), f"{row.gmac:.3g}", parameters)
        for line in _lines(row):
            table.add_row(*head, *line)
            head = ("",) * len(head)
    text = StringIO()
    Console(file=text, width=WIDTH).print(table)
    return "\n".join([text.getvalue().rstrip(), *(f"{row.name}: {row.about}" for row in rows)])


def _lines(row: PresetRow) -> Iterator[tuple[str, str, str, str]]:
    """Memory, time, score and machine; at least one line."""
    budget = "" if row.minutes is None else f"{row.minutes:g} min"
    for seen in row.measured:
        steps = row.steps_in_its_time(seen)
        threads = "1 thread" if seen.threads == 1 else f"{seen.threads} threads"
        where = f"{seen.machine}, {threads}" if seen.device == "cpu" else seen.machine
        yield f"{seen.memory_mib / 1024:.1f} GB", budget if steps is None else f"{budget}: {steps}", "", where
    for score in row.scored:
        yield "", "", f"{score.identity_transfer:.3f}, {score.face_ssim:.3f} in {score.minutes:g} min", score.machine
    if not row.measured and not row.scored:
        yield "", budget, "", ""

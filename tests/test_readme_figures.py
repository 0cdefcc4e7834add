"""README shows the figures that were measured. README and the committed JSON in, any difference out."""

from __future__ import annotations

from pathlib import Path

from benchmarks.readme_figures import (
    END,
    LIVE_END,
    LIVE_START,
    START,
    figures,
    live_figures,
    live_results,
    render,
    reports,
)

ROOT = Path(__file__).resolve().parents[1]


def test_readme_shows_the_committed_figures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert render(readme, *reports(), live_results()) == readme


def test_rendering_changes_only_what_lies_between_the_marks() -> None:
    text = f"before\n{START}\nold\n{END}\nbetween\n{LIVE_START}\n{LIVE_END}\nafter"
    wanted = f"before\n{START}\n{figures(*reports())}\n{END}\nbetween\n{LIVE_START}\n{live_figures(live_results())}\n"
    assert render(text, *reports(), live_results()) == f"{wanted}{LIVE_END}\nafter"

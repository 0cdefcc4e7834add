"""README shows the figures that were measured. README and the committed JSON in, any difference out."""

from __future__ import annotations

from pathlib import Path

from benchmarks.readme_figures import (
    END,
    LIVE_END,
    LIVE_START,
    SETS_END,
    SETS_START,
    START,
    TRAIN_END,
    TRAIN_START,
    figures,
    live_figures,
    live_results,
    render,
    reports,
    set_results,
    training_figures,
    training_results,
)
from benchmarks.readme_sets import set_figures
from training.config import TrainConfig, load_recipe
from training.presets import fingerprint

ROOT = Path(__file__).resolve().parents[1]


def test_readme_shows_the_committed_figures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert render(readme, *reports(), live_results(), training_results(), set_results()) == readme


def test_rendering_changes_only_what_lies_between_the_marks() -> None:
    live, training = live_results(), training_results()
    marks = (START, END), (LIVE_START, LIVE_END), (SETS_START, SETS_END), (TRAIN_START, TRAIN_END)
    text = "before\n" + "between\n".join(f"{start}\nold\n{end}\n" for start, end in marks) + "after"
    new = (figures(*reports()), live_figures(live), set_figures(set_results()), training_figures(training))
    wanted = "before\n" + "between\n".join(
        f"{start}\n{lines}\n{end}\n" for (start, end), lines in zip(marks, new, strict=True)
    )
    assert render(text, *reports(), live, training, set_results()) == f"{wanted}after"


def test_recipes_were_measured_as_they_are_shipped() -> None:
    rows = {name: row for name, row in training_results()["quality"]["rows"].items() if "@" not in name}
    assert len(rows) >= 3
    for name, row in rows.items():
        assert fingerprint(TrainConfig.from_dict(row["config"])) == fingerprint(load_recipe(name)), name

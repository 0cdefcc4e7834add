"""The page shows what the run says, needs nothing from elsewhere, and believes no text that comes out of files."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from realtime.errors import TrainingError
from tests.training.test_journal import sheet
from training.checkpoint import RUN
from training.journal import HISTORY, SHEETS, Journal
from training.run_curves import Chart, draw
from training.run_report import REPORT, read_history, read_scalars, verdict, write_report

SVG = "{http://www.w3.org/2000/svg}"
GOOD = {"score": 0.9, "swap_found": 1.0, "identity_margin": 0.97, "expression_followed": 0.84, "critic_accuracy": 1.0}


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A run of three looks."""
    run = tmp_path / "first try"
    run.mkdir()
    shutil.copy(finished_run / RUN, run / RUN)
    with Journal(run) as journal:
        for step in (10, 20, 30):
            journal.step(step, {"loss/pixel": 3 / step, "rate": 1e-3, "gradient_norm": 1.0, "samples_per_s": 40.0})
            journal.look(step, {**GOOD, "score": 0.5 + step / 100, "elapsed_s": step * 60.0}, sheet(step))
    return run


class Tags(HTMLParser):
    """Notes every tag, and complains of one that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parse(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    tags.close()
    assert tags.open == []
    return tags


def test_the_page_shows_verdict_figures_sheets_curves_and_facts(run: Path) -> None:
    page = write_report(run)
    assert page == run / REPORT
    tags = parse(page)
    text = " ".join(tags.words)
    assert verdict(read_history(run)) in text
    for expected in ("first try", "0.97", "Losses", "Learning rate"):
        assert expected in text
    for look in ("First look, step 10", "Middle look, step 20", "Last look, step 30"):
        assert look in text
    assert "identity, 12 faces" in text
    assert "30 steps in 30 min, 3 looks" in text
    assert "step 30, score 0.8000" in text
    assert sum(tag == "img" for tag, _ in tags.seen) == 3
    assert sum(tag == "svg" for tag, _ in tags.seen) == 7


def test_the_page_needs_nothing_from_elsewhere(run: Path) -> None:
    tags = parse(write_report(run))
    assert not {tag for tag, _ in tags.seen} & {"script", "link", "iframe", "object", "base"}
    for tag, attributes in tags.seen:
        for name in ("src", "href", "xlink:href", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), (tag, value)
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_names_no_path(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    path = json.loads((run / RUN).read_text())["facesets"]["identity"]["path"]
    assert str(Path(path).parent) not in page
    assert str(run.parent) not in page


def test_texts_from_files_are_escaped(run: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac$"
    values = json.loads((run / RUN).read_text())
    values["config"]["name"] = values["config"]["about"] = hostile
    values["facesets"]["identity"]["path"] = hostile
    (run / RUN).write_text(json.dumps(values))
    with Journal(run, read_history(run), first=30) as journal:
        journal.step(40, {f"loss/{hostile}": 1.0, "loss/a & b": 1.0, "loss/pixel": 1.0})
        journal.look(40, {"score": 0.5, hostile: 1.0}, sheet())
    named = run.rename(tmp_path / "<b>run & try")
    tags = parse(write_report(named))
    assert not any(tag in ("script", "b") and tag != "b" for tag, _ in tags.seen)
    assert sum(tag == "script" for tag, _ in tags.seen) == 0
    assert all(str(attributes.get("src", "data:")).startswith("data:") for _, attributes in tags.seen)
    assert hostile in " ".join(tags.words)
    assert "<b>run & try" in " ".join(tags.words)


def test_a_run_without_looks_has_a_page_that_says_so(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished_run / RUN, run / RUN)
    tags = parse(write_report(run))
    assert "No look at the held-out faces yet: there is nothing to say." in " ".join(tags.words)
    assert not [tag for tag, _ in tags.seen if tag in ("svg", "img")]
    assert read_scalars(run) == {}


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run; give the folder"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"score": 1}]', '[{"iteration": 1, "score": NaN}]', '{"a": 1}'])
def test_a_damaged_history_is_one_sentence(run: Path, text: str) -> None:
    (run / HISTORY).write_text(text)
    with pytest.raises(TrainingError, match="is damaged; remove it, the next look writes a new one"):
        write_report(run)


def test_a_look_at_broken_weights_has_no_score_and_spoils_no_page(run: Path) -> None:
    with Journal(run, read_history(run), first=30) as journal:
        journal.look(40, {"score": math.nan, "elapsed_s": 2400.0})
    assert "score" not in read_history(run)[-1]
    assert "0.800" in write_report(run).read_text(encoding="utf-8")
    assert "broken weights" in verdict(read_history(run)[-1:])


def test_torn_event_files_and_strange_sheets_do_no_harm(run: Path) -> None:
    newest = max((run / "tensorboard").glob("events.*"))
    newest.write_bytes(newest.read_bytes()[:-7])
    (run / SHEETS / "<x>.jpg").write_bytes(b"?")
    assert sum(tag == "img" for tag, _ in parse(write_report(run)).seen) == 3
    assert read_scalars(run)["loss/pixel"][0] == pytest.approx((10, 0.3))


def test_the_page_of_a_trained_run_can_be_written(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    parse(write_report(run))


def test_the_journal_writes_the_page_now_and_then_and_at_the_end(run: Path) -> None:
    with Journal(run, read_history(run), first=30) as journal:
        journal.report()
        first = (run / REPORT).stat().st_mtime_ns
        journal.look(40, {**GOOD, "elapsed_s": 2400.0}, sheet())
        time.sleep(0.02)
        journal.report()
        assert (run / REPORT).stat().st_mtime_ns == first
        journal.report(final=True)
    assert "40 steps in 40 min" in (run / REPORT).read_text(encoding="utf-8")


# ---------------------------------------------------------------- the verdict


def test_a_good_swap_is_called_one() -> None:
    said = verdict([{"iteration": 1.0, **GOOD}])
    assert said.startswith("The swap looks like the identity (0.97")
    assert "follows 84% of the performer's expression" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("swap_found", "no face is seen in it"),
        ("identity_margin", "it still looks like the performer"),
        ("expression_followed", "it does not follow the performer's expression"),
    ],
)
def test_what_is_lost_is_named(name: str, why: str) -> None:
    assert verdict([{"iteration": 1.0, **GOOD, name: 0.1}]) == f"This is not a swap yet: {why}."


def test_the_verdict_is_about_the_best_look() -> None:
    history = [{"iteration": 1.0, **GOOD}, {"iteration": 2.0, **GOOD, "score": 0.95, "identity_margin": 0.0}]
    assert verdict(history) == verdict(history[:1])


def test_what_was_not_measured_is_not_claimed() -> None:
    said = verdict([{"iteration": 1.0, "score": 0.7}])
    assert said == "The swap was painted by a model that repaints unseen faces with a similarity of 0.700."


def test_enough_looks_have_an_outlook() -> None:
    history = [{"iteration": float(i), "elapsed_s": 60.0 * i, **GOOD, "score": 0.9 - 0.4 / i} for i in range(1, 12)]
    assert re.search(r" Outlook: [a-z].*\d\.", verdict(history))


# ---------------------------------------------------------------- the curves


def test_a_curve_is_well_formed_and_takes_its_colours_from_the_page() -> None:
    text = draw(Chart("Losses", "loss & more", {"a<b": [(1, 0.1), (2, 0.2)], "$x": [(1, 3.0)]}, logarithmic=True), 2)
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert {"width", "height"}.isdisjoint(root.attrib)
    assert "viewBox" in root.attrib
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"a<b", "$x", "loss & more", "step"} <= set(words)
    assert "currentColor" in text
    assert draw(Chart("Losses", "loss", {"a": [(1, 0.1)]})) == draw(Chart("Losses", "loss", {"a": [(1, 0.1)]}))


def test_nothing_to_draw_is_no_drawing() -> None:
    assert draw(Chart("Losses", "loss", {})) == draw(Chart("Losses", "loss", {"a": []})) == ""


def test_what_a_logarithm_cannot_show_is_drawn_without() -> None:
    assert draw(Chart("Losses", "loss", {"a": [(1, 0.0), (2, -1.0), (3, 4.0)]}, logarithmic=True))

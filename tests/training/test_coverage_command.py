"""liveswap coverage: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest

from liveswap import main
from tests.covered import write_set
from training import coverage_html
from training.contact_sheet import pick_evenly
from training.coverage_facts import Shots


class Page(HTMLParser):
    """Notes what a page shows and asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        "frontal": str(write_set(folder / "<b>frontal", yaw=5)),
        "identity": str(write_set(folder / "identity")),
        "performer": str(write_set(folder / "performer", "performer", faces=20)),
    }


def test_the_report_says_on_the_terminal_in_html_in_pictures_and_in_json_the_same(
    sets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, plots, facts = tmp_path / "report.html", tmp_path / "new" / "plots", tmp_path / "report.json"
    call = ["coverage", sets["frontal"], sets["performer"], "--html", str(page), "--plots", str(plots)]
    assert main([*call, "--json", str(facts)]) == 0
    said = capsys.readouterr().out
    result = json.loads(facts.read_text())
    shown = " ".join(" ".join(Page(page.read_text()).words).split())
    assert said.startswith(f"{result['level']}: {result['summary']}")
    for finding in result["findings"]:
        assert finding["sentence"] in said
        assert finding["fact"] in shown
    assert result["advice"]["sentence"] in said
    assert result["advice"]["sentence"] in shown
    assert len(result["frames"]["risk"]) == result["sets"]["performer"]["faces"] == 20
    assert {path.name for path in plots.iterdir()} == {
        "pose.png",
        "light.png",
        "expression.png",
        "risk.png",
        "worst.png",
    }
    assert all(cv2.imread(str(path)) is not None for path in plots.iterdir())


def test_the_page_needs_nothing_from_elsewhere_and_believes_no_name(sets: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert main(["coverage", sets["frontal"], sets["performer"], "--html", str(file), "-q"]) == 0
    text = file.read_text()
    page = Page(text)
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "b>frontal"}
    assert "<b>frontal" not in text
    assert "&lt;b&gt;frontal" in text
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_the_same_call_writes_the_same_page(sets: dict[str, str], tmp_path: Path) -> None:
    files = [tmp_path / "a.html", tmp_path / "b.html"]
    for file in files:
        assert main(["coverage", sets["identity"], sets["performer"], "--html", str(file), "-q"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_preset_that_was_chosen_is_the_one_that_is_judged(
    sets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", sets["identity"], sets["performer"], "--preset", "tiny-64", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"]["preset"] == "tiny-64"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--html", "."], "is a folder; give --html the name of a file"),
        (["--html", "missing/report.html"], "of --html does not exist"),
        (["--plots", "file"], "is a file; give --plots the name of a folder"),
        (["--preset", "huge"], "there is no preset 'huge' to judge; choose one of tiny-64, light-128"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    sets: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["coverage", sets["identity"], sets["performer"], *flags]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_folder_that_is_no_faceset_is_told_in_a_sentence(
    sets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", sets["identity"], str(tmp_path)]) == 1
    assert "is no faceset" in capsys.readouterr().err


def test_a_damaged_crop_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_set(tmp_path / "damaged", faces=4)
    (path / "faces" / "000002.jpg").write_bytes(b"no jpeg")
    assert main(["coverage", str(path), str(path)]) == 1
    assert "000002.jpg is no plain JPEG file" in capsys.readouterr().err


def test_a_set_covers_itself_but_for_its_size(sets: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", sets["performer"], sets["performer"], "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["cause"] == "identity few"
    assert found["frames"]["nearest"] == pick_evenly(20, 20)


def test_one_long_shot_is_not_called_half_of_many() -> None:
    assert coverage_html._shots(Shots(1, 300.0, 0.0)) == "1, of 300.0 s"
    assert coverage_html._shots(Shots(9, 0.8, 0.9)) == "9, half of them below 0.8 s"

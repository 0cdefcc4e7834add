from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from export.statement import Statement, state
from realtime.dfm import MAX_WORDS, NOT_STATED
from realtime.errors import UsageError


def test_the_words_go_onto_the_card_as_they_were_said() -> None:
    told = state(
        " Ada ", "She said yes.", exporter="Studio", licence="CC-BY-4.0", uses=("a film",), badge_required=True
    )
    assert told.card() == {
        "subject": "Ada",
        "consent": "She said yes.",
        "exporter": "Studio",
        "licence": "CC-BY-4.0",
        "allowed_uses": ["a film"],
        "badge": "required",
    }


def test_a_document_is_named_by_its_checksum_and_stays_where_it_is(tmp_path: Path) -> None:
    paper = tmp_path / "agreement.pdf"
    paper.write_bytes(b"%PDF signed")
    told = state("Ada", None, file=paper)
    digest = hashlib.sha256(b"%PDF signed").hexdigest()
    assert told.card()["consent_document"] == {"name": "agreement.pdf", "bytes": 11, "sha256": digest}
    assert told.consent == "see the document agreement.pdf"
    assert state("Ada", "yes", file=paper).consent == "yes"


def test_that_nobody_stated_anything_has_to_be_said_outright() -> None:
    assert state(None, None, none=True) == Statement(NOT_STATED, NOT_STATED)
    assert state("Ada", None, none=True).subject == "Ada"


@pytest.mark.parametrize(
    ("subject", "consent", "others", "sentence"),
    [
        (None, "yes", {}, "add --subject"),
        ("Ada", None, {}, "--no-consent-statement"),
        ("  ", "yes", {}, "--subject is empty"),
        ("Ada", "\t\n", {}, "--consent is empty"),
        ("Ada", "yes", {"none": True}, "says that there is none"),
        ("Ada", "y" * (MAX_WORDS + 1), {}, "put the rest into a document"),
        ("Ada", "yes", {"licence": " "}, "--licence is empty"),
        ("Ada", "yes", {"uses": ("a", "")}, "--allowed-use is empty"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_one_sentence(
    subject: str | None, consent: str | None, others: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        state(subject, consent, **others)  # type: ignore[arg-type]  # on purpose


def test_a_document_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").touch()
    for path in (tmp_path, tmp_path / "nothing.pdf", tmp_path / "empty.pdf"):
        with pytest.raises(UsageError) as told:
            state("Ada", None, file=path)
        assert "\n" not in str(told.value)

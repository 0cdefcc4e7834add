"""What a model says about the person whose face it shows. The exporter's words in, entries of the model card out.

Note [Consent]
    A model wears somebody's face. It names that person and says how they agreed, in words or by the checksum of a
    document that was signed or recorded; or it says outright that nobody stated anything, and whoever runs it is told.
    liveswap cannot know whether any of it is true: it makes sure that it was said, by whom, and that it stays with the
    file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realtime.dfm import MAX_WORDS, NOT_STATED
from realtime.errors import UsageError
from realtime.files import explain

MAX_DOCUMENT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Statement:
    """Who is shown, how they agreed, and what the model may be used for. See `state`."""

    subject: str
    consent: str
    exporter: str | None = None
    document: dict[str, Any] | None = None
    """Name, size and sha256 of the document that says how they agreed."""
    licence: str | None = None
    uses: tuple[str, ...] = ()
    badge_required: bool = False
    """Whether the model is never to be shown without the visible mark."""

    def card(self) -> dict[str, Any]:
        """Entries of the model card."""
        card: dict[str, Any] = {"subject": self.subject, "consent": self.consent, "exporter": self.exporter}
        if self.document is not None:
            card["consent_document"] = self.document
        if self.licence is not None:
            card["licence"] = self.licence
        if self.uses:
            card["allowed_uses"] = list(self.uses)
        if self.badge_required:
            card["badge"] = "required"
        return card


def state(
    subject: str | None,
    consent: str | None,
    *,
    file: Path | None = None,
    none: bool = False,
    exporter: str | None = None,
    licence: str | None = None,
    uses: Sequence[str] = (),
    badge_required: bool = False,
) -> Statement:
    """A statement from what the exporter said. `file` documents the consent; `none`: nobody stated any.

    Raises UsageError when something is missing, contradicts itself, or cannot be read.
    """
    for name, words in (("subject", subject), ("consent", consent), ("licence", licence), ("exporter", exporter)):
        _check(name, words)
    for use in uses:
        _check("allowed-use", use)
    if none:
        if consent is not None or file is not None:
            raise UsageError("--no-consent-statement says that there is none; leave it out, or leave out the consent")
        return Statement(
            _clean(subject) or NOT_STATED, NOT_STATED, exporter, None, licence, tuple(uses), badge_required
        )
    if subject is None:
        raise UsageError("a model names whose face it shows; add --subject NAME")
    if consent is None and file is None:
        raise UsageError(
            "a model says how the person agreed; add --consent TEXT or --consent-file FILE, "
            "or --no-consent-statement, which the model then says"
        )
    document = None if file is None else _document(file)
    words = _clean(consent) or f"see the document {document['name'] if document else ''}"
    return Statement(_clean(subject), words, exporter, document, licence, tuple(uses), badge_required)


def _clean(words: str | None) -> str:
    return (words or "").strip()


def _check(name: str, words: str | None) -> None:
    if words is None:
        return
    if not words.strip():
        person = name in ("subject", "consent")
        remedy = "say whose face the model shows and how that person agreed" if person else "say it, or leave it out"
        raise UsageError(f"--{name} is empty; {remedy}")
    if len(words) > MAX_WORDS:
        raise UsageError(f"--{name} has {len(words)} letters, at most {MAX_WORDS} fit; put the rest into a document")


def _document(path: Path) -> dict[str, Any]:
    """What a card says about a document; the document itself stays with the exporter."""
    try:
        if not path.is_file():
            raise UsageError(f"{path} is no file; give the document in which the person agrees")
        size = path.stat().st_size
        if not 0 < size <= MAX_DOCUMENT_BYTES:
            raise UsageError(f"{path} is {'empty' if not size else 'too large'}; give the signed document itself")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(explain(error, path)) from error
    return {"name": path.name[:200], "bytes": size, "sha256": digest}

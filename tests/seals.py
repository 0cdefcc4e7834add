"""What signs recordings in tests. Nothing in; a Provenance with this computer's own certificate out."""

from __future__ import annotations

from pathlib import Path

from realtime.credential import Credential, open_credential
from realtime.provenance import Provenance, Statement

STATEMENT = Statement("0.1.0", ({"name": "ada.dfm", "sha256": "ab" * 32, "subject": "Ada"},), "camera", badge=True)


def provenance(
    own: Credential | None = None, statement: Statement = STATEMENT, parent: Path | None = None
) -> Provenance:
    """Of a run that never was; the certificate is made at the first use, in the folder that conftest.py gives."""
    return Provenance(lambda: own or open_credential(), lambda: statement, parent)

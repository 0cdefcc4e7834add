"""Says in a file how it came about. A finished recording or still in, the same file with a signed manifest out.

Note [Manifest]
    C2PA (c2pa.org) is the open standard for it: actions, who did them, a hash of everything else in the file, and a
    signature. Ours says that a face was swapped by a trained model (digital source type composite with trained
    algorithmic media, iptc.org), with which one, whose face it shows and whether every picture carries the visible
    mark. A source that has a manifest of its own is named as what this file was made from, manifest and all, so that
    nothing that was known about it is lost.

    Matroska has no place for a manifest: it lies beside such a file, as NAME.mkv.c2pa.

    A file may name an address where its manifest lies. It is never asked: a stranger's video must not make this
    computer call anybody.

    The picture never waits for it: a file is signed when it is finished, into a second file that replaces the first.
    A recording that cannot be signed is kept, and the run says so and fails.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from realtime.credential import Credential
from realtime.errors import LiveswapError, SinkError, SourceError
from realtime.files import explain, write_atomically
from realtime.plain_text import plain

if TYPE_CHECKING:
    from c2pa import Context

_log = logging.getLogger(__name__)

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
LABEL = "org.liveswap.swap"
"""Of the assertion with our own facts."""
SIDECAR = ".c2pa"
_KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
"""What can hold a manifest, by the ending of its name."""
_BESIDE = "application/octet-stream"
MAX_SIDECAR_BYTES = 64 << 20
"""A manifest with those of all that went before; ours have some kilobytes."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a manifest says about a run."""

    version: str
    """Of liveswap."""
    models: tuple[Mapping[str, Any], ...]
    """Of each model: name, sha256, subject and consent, as far as its card says."""
    source: str
    """Kind of the source: camera, file, stream, ... never its name or place."""
    badge: bool
    """Whether every picture carries the visible mark."""

    def facts(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {"models": [dict(each) for each in self.models], "source": self.source, "badge": self.badge}


class Seal(Protocol):
    """What writes a manifest into a finished file."""

    def seal(self, path: Path, name: str) -> None:
        """Give the file at `path`, soon called `name`, its manifest. Raises SinkError; the file stays whole."""
        ...


@dataclass(frozen=True, slots=True)
class Provenance:
    """Signs what one run leaves behind. Safe to use from several threads."""

    credential: Callable[[], Credential]
    """Asked when the first file is signed."""
    statement: Callable[[], Statement]
    """Asked when a file is signed: what is true by then."""
    parent: Path | None = None
    """The video that was swapped, where it was a file."""

    def seal(self, path: Path, name: str) -> None:
        """Give the file at `path`, soon called `name`, its manifest. Raises SinkError; the file stays whole."""
        kind = _KINDS.get(path.suffix.lower())
        signed = path.with_name(f"{path.name}.signed")
        try:
            if kind is None:
                manifest = self._sign(_BESIDE, path, None, name)
                write_atomically(path.with_name(name + SIDECAR), manifest)
            else:
                self._sign(kind, path, signed, name)
                os.replace(signed, path)
        except OSError as error:
            raise SinkError(f"{name} is kept without a manifest: {explain(error, path)}") from error
        except LiveswapError as error:
            raise SinkError(f"{name} is kept without a manifest: {error}") from error
        finally:
            with suppress(OSError):
                signed.unlink()

    def _sign(self, kind: str, path: Path, signed: Path | None, name: str) -> bytes:
        import c2pa

        own = self.credential()
        try:
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(own.algorithm, own.chain, own.key, None))
            with signer, _offline() as alone, c2pa.Builder(json.dumps(self._manifest(name)), alone) as builder:
                if self.parent is not None and has_manifest(self.parent):
                    with self.parent.open("rb") as parent:
                        told = {"title": "the video that was swapped", "relationship": "parentOf", "label": "parent"}
                        builder.add_ingredient(json.dumps(told), _KINDS[self.parent.suffix.lower()], parent)
                if signed is None:
                    builder.set_no_embed()
                    with path.open("rb") as file:
                        return bytes(builder.sign(signer, kind, file, BytesIO()))
                with path.open("rb") as file, signed.open("w+b") as out:
                    manifest = bytes(builder.sign(signer, kind, file, out))
                    out.flush()
                    os.fsync(out.fileno())
                    return manifest
        except c2pa.C2paError as error:
            reason = " ".join(str(error).split())[:200]
            raise LiveswapError(f"it could not be signed ({reason}); check certificate and disk") from error

    def _manifest(self, name: str) -> dict[str, Any]:
        statement = self.statement()
        agent = {"name": "liveswap", "version": statement.version}
        swap = {
            "action": "c2pa.edited",
            "softwareAgent": agent,
            "digitalSourceType": SOURCE_TYPE,
            "description": "A face was swapped by a trained model.",
        }
        first: dict[str, Any] = {"action": "c2pa.created", "softwareAgent": agent, "digitalSourceType": SOURCE_TYPE}
        if self.parent is not None and has_manifest(self.parent):
            first = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
        return {
            "claim_generator_info": [agent],
            "title": plain(name),
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [first, swap]}},
                {"label": LABEL, "data": statement.facts()},
            ],
        }


def _offline() -> Context:
    """c2pa's settings with which it asks nobody: no address that a file names, no certificate authority."""
    import c2pa

    return c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})


def has_manifest(path: Path) -> bool:
    """Whether a file carries a manifest, valid or not."""
    import c2pa

    if path.suffix.lower() not in _KINDS:
        return False
    try:
        with path.open("rb") as file, _offline() as alone:
            reader = c2pa.Reader.try_create(_KINDS[path.suffix.lower()], file, None, alone)
            if reader is None:
                return False
            with reader:
                return True
    except (c2pa.C2paError, OSError):
        return False


def read_manifest(path: Path) -> dict[str, Any]:
    """What the manifest of a file says: `state` (Invalid, Valid or Trusted), `problems`, `actions`, `facts`, ...

    Raises SourceError when there is no file or no manifest.
    """
    import c2pa

    kind = _KINDS.get(path.suffix.lower())
    beside = path.with_name(path.name + SIDECAR)
    try:
        with path.open("rb") as file, _offline() as alone:
            if kind is None:
                if not beside.is_file():
                    raise SourceError(f"{path} has no manifest beside it; keep NAME{SIDECAR} together with the video")
                if beside.stat().st_size > MAX_SIDECAR_BYTES:
                    raise SourceError(f"{beside} is too large for a manifest; nothing is known of {path}")
                reader = c2pa.Reader(_BESIDE, file, beside.read_bytes(), alone)
            else:
                reader = c2pa.Reader(kind, file, None, alone)
            with reader:
                return _told(json.loads(reader.json()), str(reader.get_validation_state()))
    except OSError as error:
        raise SourceError(explain(error, path)) from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} has a manifest whose parts do not fit together; nothing is known of it") from error
    except c2pa.C2paError as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{path} has no manifest that can be read ({reason}); nothing is known of it") from error


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What `read_manifest` found, for people. A manifest may claim anything: everything is one line of plain text."""
    facts = told["facts"] if isinstance(told["facts"], dict) else {}
    lines = ["unchanged since it was signed" if told["state"] != "Invalid" else "CHANGED after it was signed"]
    trusted = "" if told["state"] == "Trusted" else ", who is on no list of trusted signers"
    lines.append(f"signed by {told['signed_by'] or 'somebody without a name'}{trusted}")
    made = any(each["digital_source_type"] == SOURCE_TYPE for each in told["actions"])
    lines.append("made with a trained model" if made else "does not say that a trained model took part")
    models = facts.get("models")
    for model in models if isinstance(models, list) else []:
        if isinstance(model, dict):
            subject, consent = model.get("subject") or "nobody named", model.get("consent") or "not stated"
            lines.append(f"model {model.get('name')} ({str(model.get('sha256'))[:12]}): {subject}; consent: {consent}")
    if "badge" in facts:
        lines.append("every picture carries the AI mark" if facts["badge"] is True else "the AI mark was left out")
    lines += [f"made from {each}" for each in told["made_from"] if each]
    return [plain(line, 400) for line in lines]


def _told(store: Mapping[str, Any], state: str) -> dict[str, Any]:
    manifest = store["manifests"][store["active_manifest"]]
    data = {each["label"]: each["data"] for each in manifest["assertions"]}
    actions: list[dict[str, Any]] = next(
        (value["actions"] for label, value in data.items() if label.startswith("c2pa.actions")), []
    )
    return {
        "state": state,
        "problems": [each["code"] for each in store.get("validation_status", [])],
        "signed_by": manifest.get("signature_info", {}).get("common_name"),
        "generator": manifest.get("claim_generator_info", []),
        "actions": [
            {"action": each["action"], "digital_source_type": each.get("digitalSourceType")} for each in actions
        ],
        "made_from": [each.get("title") for each in manifest.get("ingredients", [])],
        "facts": data.get(LABEL, {}),
    }

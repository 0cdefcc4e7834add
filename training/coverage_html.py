"""Writes the page of a coverage report. Coverage, verdict, advice and pictures in, one HTML document out.

See Note [Pages]: one file that opens from disk, without scripts, and that escapes whatever comes out of a set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.coverage import SIDES, Coverage
from training.coverage_advice import Advice
from training.coverage_facts import Shots
from training.coverage_findings import Finding, facts_of, percent
from training.coverage_plots import Pair
from training.coverage_verdict import Verdict
from training.page import embed_picture, escape, facts, figure, page, tiles

_CAUSES = {
    "pose": "Pose",
    "expression": "Expression",
    "light": "Light",
    "detail": "Detail",
    "few": "Too few looks",
    "mixed": "Several people",
    "hidden": "Something in front",
    "cuts": "Jump cuts",
}
_MOST_LOSSES = 8


def coverage_page(
    found: Coverage, verdict: Verdict, advice: Advice, drawings: Mapping[str, str], pairs: Sequence[Pair]
) -> str:
    """The document. `drawings` are SVG elements by their titles."""
    title = f"{found.identity.name} onto {found.performer.name}"
    curves = "".join(figure(name, f'<div class="wide">{svg}</div>') for name, svg in drawings.items() if svg)
    body = f"""<h1>Coverage <small>{escape(title)}</small></h1>
<p class="verdict"><span class="level {verdict.level.lower()}">{verdict.level}</span> {escape(verdict.summary)}</p>
{_tiles(found)}
<h2>What to film</h2>
{_findings(verdict.findings)}
<h2>What to train</h2>
<p>{escape(advice.sentence)}</p>
{_pairs(pairs)}
<h2>Maps</h2>
<p class="note">Left and right are those of the image, as the camera sees it.</p>
<section class="maps">{curves}</section>
<h2>The sets</h2>
<div class="scroll">{_sets(found)}</div>
<h2>What costs how much</h2>
<p class="note">Share of the swap that each cause alone would cost, predicted before training.</p>
{_losses(verdict.losses)}
{_notes(verdict.notes)}"""
    return page(f"Coverage: {title}", body, _STYLE)


def _tiles(found: Coverage) -> str:
    identity, performer = (found.quality[side] for side in SIDES)
    risky = float((found.risk > 0.5).mean())
    return tiles(
        (
            ("Predicted", f"{percent(found.score)}", "of what a preset can give"),
            ("Frames at risk", f"{percent(risky)}", "of the performer's, that lose more than half"),
            ("Identity", f"{identity.effective} looks", f"different ones among {found.identity.total} faces"),
            ("Performer", f"{performer.effective} looks", f"different ones among {found.performer.total} faces"),
        )
    )


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing is missing: the identity's set covers the performer's.</p>"
    rows = "".join(
        f"<li><b>{escape(_cause(finding.cause))}</b> {escape(finding.fact)}.<br>"
        f'<span class="do">{escape(_sentence(finding.remedy))}</span> '
        f'<span class="cost">costs about {percent(finding.loss)}</span></li>'
        for finding in findings
    )
    return f'<ol class="findings">{rows}</ol>'


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _cause(cause: str) -> str:
    side, _, kind = cause.rpartition(" ")
    return f"{_CAUSES[kind]}{f' ({side})' if side else ''}:"


def _pairs(pairs: Sequence[Pair]) -> str:
    """The performer's worst frames, each beside the identity's nearest."""
    if not pairs:
        return ""
    shown = "".join(
        figure(
            f"risk {percent(pair.risk)}, most of it {pair.cause}",
            f'<div class="pair">{embed_picture(pair.performer, f"performer, face {pair.frame}")}'
            f"{embed_picture(pair.identity, f'nearest of the identity, face {pair.nearest}')}</div>",
        )
        for pair in pairs
    )
    note = "The performer's frames that are least covered, each beside the face of the identity that is nearest to it."
    return f'<h2>Worst frames</h2><p class="note">{note}</p><section class="pairs">{shown}</section>'


def _sets(found: Coverage) -> str:
    import numpy as np

    head = "".join(f"<th>{name}</th>" for name in ("", "identity", "performer"))
    rows: dict[str, list[str]] = {}
    for side in SIDES:
        held, quality = facts_of(found, side), found.quality[side]
        yaw, pitch = (np.percentile(held.pose[:, axis], (2, 98)) for axis in (0, 1))
        shots = "cannot be told" if held.shots is None else _shots(held.shots)
        for name, value in (
            ("Folder", held.name),
            ("Faces", f"{held.total}"),
            ("Different looks", f"{quality.effective}"),
            ("Turned left to right", f"{-yaw[1]:.0f} to {-yaw[0]:.0f} degrees"),
            ("Down to up", f"{-pitch[1]:.0f} to {-pitch[0]:.0f} degrees"),
            ("Height of a face", f"{np.median(held.native_px):.0f} pixels"),
            ("Sharpness", f"{np.median(held.sharpness):.1f}"),
            ("Something in front", f"{percent(quality.hidden)} of faces"),
            ("Somebody else", f"{percent(quality.strangers)} of faces"),
            ("Shots", shots),
        ):
            rows.setdefault(name, []).append(value)
    cells = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows.items()
    )
    return f"<table><tr>{head}</tr>{cells}</table>"


def _shots(shots: Shots) -> str:
    lengths = f"of {shots.median_s:.1f} s" if shots.count == 1 else f"half of them below {shots.median_s:.1f} s"
    return f"{shots.count}, {lengths}"


def _losses(losses: Mapping[str, float]) -> str:
    known = [(_cause(cause).rstrip(":"), f"{percent(loss)}") for cause, loss in losses.items() if loss >= 0.005]
    return facts(known[:_MOST_LOSSES]) if known else "<p>Nothing.</p>"


def _notes(notes: Sequence[str]) -> str:
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<h2>What could not be judged</h2><ul class="note">{said}</ul>' if notes else ""


_STYLE = """
h1{line-height:1.25}h1 small{font-size:.6em}.tiles div{flex:1 1 140px}
.level{border-radius:6px;padding:2px 10px;color:#fff;font-weight:700;margin-right:6px}
.go{background:#21834a}.warn{background:#a65f00}.stop{background:#b3261e}
.findings{padding-left:1.4em;margin:0}.findings li{margin:0 0 12px}.cost{color:var(--soft);font-size:.86em}
.pairs figure{flex:0 1 284px}.pair{display:flex;gap:6px}.pair img{width:calc(50% - 3px);border-radius:4px}
.maps figure{flex:1 1 100%}.scroll,.maps .wide{overflow-x:auto}.wide svg{min-width:620px}
td{padding:4px 16px 4px 0;vertical-align:top}
"""

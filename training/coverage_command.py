"""The command `liveswap coverage`. Flags in; a report on the terminal, as HTML, as pictures and as JSON, out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime import front
from realtime.errors import FacesetError, UsageError
from realtime.screen import Screen

if TYPE_CHECKING:
    from training.coverage import Coverage
    from training.coverage_advice import Advice
    from training.coverage_facts import SetFacts
    from training.coverage_plots import Pair
    from training.coverage_verdict import Verdict
    from training.faceset import Faceset

_MOST_FRAMES = 200
"""So many of the performer's faces are named in the JSON for each finding."""


def add_coverage_flags(parser: argparse.ArgumentParser) -> None:
    """What `liveswap coverage` understands."""
    parser.add_argument("identity", type=front.path, metavar="IDENTITY_FACESET", help="whose face will be seen")
    parser.add_argument("performer", type=front.path, metavar="PERFORMER_FACESET", help="who is in front of the camera")
    parser.add_argument("--preset", type=front.text, metavar="NAME", help="what will be trained; default: what fits")
    parser.add_argument("--html", type=front.path, metavar="FILE", help="write the report as one web page")
    parser.add_argument("--plots", type=front.path, metavar="DIR", help="write its drawings as PNG into a folder")


def coverage(args: argparse.Namespace, screen: Screen) -> int:
    """Compare two facesets and say whether training is worth it; 0 whatever the verdict is."""
    from training.coverage import cover
    from training.coverage_advice import advise, choose, find_offer, read_offers
    from training.coverage_plots import worst_pairs
    from training.coverage_verdict import judge

    _check_targets(args)
    offers = read_offers()
    offer = None if args.preset is None else find_offer(offers, args.preset)
    sets = {side: _open(getattr(args, side)) for side in ("identity", "performer")}
    facts = {side: _look(faceset, side, screen) for side, faceset in sets.items()}
    found = cover(facts["identity"], facts["performer"], None if offer is None else offer.face_px)
    verdict = judge(found)
    chosen = offer or choose(offers, facts["identity"], facts["performer"])
    advice = advise(found, chosen, chosen=offer is not None)
    pairs = worst_pairs(found, sets["identity"], sets["performer"]) if args.html or args.plots else []
    _write_page(args.html, found, verdict, advice, pairs)
    _write_plots(args.plots, found, pairs)
    screen.say(_said(verdict, advice, args))
    front.write_json(args.json, _result(found, verdict, advice))
    return 0


def _check_targets(args: argparse.Namespace) -> None:
    """Refuse before the work what cannot be written after it. Raises UsageError."""
    if args.html is not None and args.html.is_dir():
        raise UsageError(f"{args.html} is a folder; give --html the name of a file")
    if args.html is not None and not args.html.parent.is_dir():
        raise UsageError(f"the folder {args.html.parent} of --html does not exist; make it, or choose another")
    if args.plots is not None and args.plots.exists() and not args.plots.is_dir():
        raise UsageError(f"{args.plots} is a file; give --plots the name of a folder")


def _open(path: Path) -> Faceset:
    from training.faceset import Faceset

    return Faceset.open(path, verify=False)  # every face that is looked at is decoded anyway


def _look(faceset: Faceset, side: str, screen: Screen) -> SetFacts:
    from training.coverage_facts import read_facts

    with screen.progress(f"look at the {side}") as meter:
        return read_facts(faceset, lambda done, total: meter.update(done, total, f"{done} of {total} faces"))


def _figures(found: Coverage) -> dict[str, tuple[str, Any]]:
    """Name of the file, title and drawing."""
    from training import coverage_plots as plots

    return {
        "pose": ("Where both look", plots.pose_map),
        "light": ("How both are lit", plots.light_map),
        "expression": ("What both faces do", plots.expression_map),
        "risk": ("Risk over the performer's film", plots.risk_line),
    }


def _write_page(path: Path | None, found: Coverage, verdict: Verdict, advice: Advice, pairs: list[Pair]) -> None:
    if path is None:
        return
    from realtime.files import explain, write_atomically
    from training.coverage_html import coverage_page
    from training.drawing import drawing, to_svg

    drawings = {}
    for name, (title, draw) in _figures(found).items():
        with drawing(name):
            drawings[title] = to_svg(draw(found))
    try:
        write_atomically(path, coverage_page(found, verdict, advice, drawings, pairs))
    except OSError as error:
        raise FacesetError(explain(error, path)) from error


def _write_plots(folder: Path | None, found: Coverage, pairs: list[Pair]) -> None:
    if folder is None:
        return
    import cv2

    from realtime.files import explain, write_atomically
    from training.coverage_plots import pair_sheet
    from training.drawing import drawing, to_png

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (_, draw) in _figures(found).items():
            with drawing(name):
                write_atomically(folder / f"{name}.png", to_png(draw(found)))
        _, worst = cv2.imencode(".png", pair_sheet(pairs))
        write_atomically(folder / "worst.png", worst.tobytes())
    except OSError as error:
        raise FacesetError(explain(error, folder)) from error


def _said(verdict: Verdict, advice: Advice, args: argparse.Namespace) -> str:
    lines = [f"{verdict.level}: {verdict.summary}"]
    lines += [f"  {number}. {finding.sentence}" for number, finding in enumerate(verdict.findings, start=1)]
    lines += [f"  ({note})" for note in verdict.notes]
    lines.append(advice.sentence)
    written = [str(path) for path in (args.html, args.plots) if path is not None]
    return "\n".join(lines + ([f"look at {' and '.join(written)}"] if written else []))


def _result(found: Coverage, verdict: Verdict, advice: Advice) -> dict[str, Any]:
    """Everything that was found, as plain values; faces are named by their numbers in the performer's set."""
    number = found.performer.index.tolist()
    findings = [
        {
            **finding,
            "sentence": each.sentence,
            "frames": [number[row] for row in each.frames[:_MOST_FRAMES]],
        }
        for finding, each in zip(verdict.to_json()["findings"], verdict.findings, strict=True)
    ]
    return {
        **verdict.to_json(),
        "findings": findings,
        "score": round(found.score, 4),
        "advice": advice.to_json(),
        "sets": {
            side: {
                "folder": facts.name,
                "faces": facts.total,
                "looked_at": found.quality[side].looked_at,
                "different_looks": found.quality[side].effective,
                "strangers": round(found.quality[side].strangers, 4),
                "hidden": round(found.quality[side].hidden, 4),
            }
            for side, facts in (("identity", found.identity), ("performer", found.performer))
        },
        "frames": {
            "face": number,
            "risk": [round(value, 4) for value in found.risk.tolist()],
            "nearest": found.identity.index[found.nearest["together"]].tolist(),
            **{axis: [round(value, 3) for value in values.tolist()] for axis, values in found.distances.items()},
        },
    }

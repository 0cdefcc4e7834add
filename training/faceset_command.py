"""Looks at facesets and makes new ones, from a command line. Flags in; a summary, progress and an exit code out.

`liveswap faceset ACTION` is this command. Every action that writes makes a new set and leaves the old ones alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime import front
from realtime.errors import UsageError
from realtime.screen import Screen

if TYPE_CHECKING:
    from training.faceset import Faceset
    from training.faceset_edit import Pick

_Run = Callable[[argparse.Namespace, Screen], int]


def add_faceset_actions(parser: argparse.ArgumentParser) -> None:
    """What can be done with facesets."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run: _Run, summary: str) -> argparse.ArgumentParser:
        each: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        each.set_defaults(command=run)
        front.add_common_flags(each)
        return each

    def one_set(name: str, run: _Run, summary: str) -> argparse.ArgumentParser:
        each = action(name, run, summary)
        each.add_argument("faceset", type=front.path, metavar="FACESET")
        each.add_argument("--out", type=front.path, required=True, metavar="NEW", help="folder to make")
        return each

    info = action("info", _info, "tell what a faceset holds and whether it is intact")
    info.add_argument("faceset", type=front.path, metavar="FACESET")
    info.add_argument("--sheet", type=front.path, metavar="FILE.png", help="draw a contact sheet, profile to profile")
    info.add_argument("--faces", type=front.count, default=64, metavar="N", help="how many on the sheet; default: 64")

    merge = action("merge", _merge, "put several facesets together")
    merge.add_argument("facesets", nargs="+", type=front.path, metavar="FACESET")
    merge.add_argument("--out", type=front.path, required=True, metavar="NEW", help="folder to make")
    merge.add_argument(
        "--different-people", action="store_true", help="the sets show different people; default: their main one is one"
    )

    split = one_set("split", _split, "divide a faceset into several, below one new folder")
    split.add_argument("--by", choices=("source", "person", "track", "time", "count"), required=True)
    split.add_argument(
        "--share", type=front.positive, default=0.9, metavar="F", help="by time: early part of a source; default: 0.9"
    )
    split.add_argument("--count", type=front.count, metavar="N", help="by count: faces drawn for the first set")
    split.add_argument("--seed", type=front.count, default=1, metavar="N", help="by count: of the draw; default: 1")

    prune = one_set("prune", _prune, "leave faces out of a faceset")
    prune.add_argument("--min-sharpness", type=front.number, metavar="N", help="3 is blurred, 15 is crisp")
    prune.add_argument("--min-native-px", type=front.number, metavar="N", help="height of the face in its source")
    for angle, meaning in (("yaw", "positive: to the left of the picture"), ("pitch", "positive: down")):
        prune.add_argument(f"--{angle}", type=front.number, nargs=2, metavar=("FROM", "TO"), help=f"degrees, {meaning}")
    prune.add_argument("--person", type=_number, metavar="N", help="keep only this one; 0 is shown most")
    prune.add_argument("--max-covered", type=front.number, metavar="0..1", help="share of the face that is hidden")
    prune.add_argument("--duplicates", action="store_true", help="leave out near duplicates")
    prune.add_argument("--count", type=front.count, metavar="N", help="keep N, spread over all poses, the sharpest")

    sort = one_set("sort", _sort, "order the faces of a set")
    sort.add_argument("--by", required=True, metavar="FIGURE", help="yaw, pitch, sharpness, light, mouth, person, ...")
    sort.add_argument("--descending", action="store_true", help="the greatest first")

    export = one_set("export", _export, "write the crops as DeepFaceLab's aligned JPGs")
    export.add_argument("--size", type=front.count, metavar="PX", help="side of the JPGs; default: that of the set")

    take = action("import", _import, "make a faceset of DeepFaceLab's or faceswap's crops")
    take.add_argument("source", type=front.path, metavar="SOURCE", help="folder of JPGs or PNGs, or a faceset.pak")
    take.add_argument("--out", type=front.path, required=True, metavar="FACESET", help="folder to make")
    take.add_argument("--size", type=front.count, default=256, metavar="PX", help="side of a face crop; default: 256")
    take.add_argument(
        "--coverage-kind", choices=("auto", "whole", "full"), default="auto", help="how much of a head; default: auto"
    )
    take.add_argument("--fps", type=front.positive, default=30.0, metavar="N", help="rate of the videos; default: 30")
    take.add_argument("--min-native-px", type=front.number, default=24.0, metavar="N", help="default: 24")
    take.add_argument("--alignments", type=front.path, metavar="FILE", help="faceswap's: .json or .fsa")


def _number(given: str) -> int:
    value = front.number(given)
    if value < 0 or value != int(value):
        raise argparse.ArgumentTypeError(f"{given} is not a number of a person; count from 0")
    return int(value)


def _open(path: Path) -> Faceset:
    from training.faceset import Faceset

    return Faceset.open(path)


def _info(args: argparse.Namespace, screen: Screen) -> int:
    from realtime.errors import FacesetError
    from training.faceset import Faceset
    from training.faceset_figures import describe, lines

    if args.sheet:
        _check_sheet(args.sheet)
    faceset, damage = Faceset.open(args.faceset, verify=False), ""
    try:
        faceset = _open(args.faceset)
    except FacesetError as error:
        damage = str(error)
    with screen.progress("info") as meter:
        info = describe(faceset, damage=damage, tell=lambda i: meter.update(i, len(faceset)))
    screen.say("\n".join(lines(info)))
    if args.sheet and not damage:
        _draw_sheet(faceset, args.sheet, args.faces)
        screen.say(f"look at {args.sheet}")
    front.write_json(args.json, info.to_json())
    if damage:
        screen.warn(damage)
    return 1 if damage else 0


def _check_sheet(path: Path) -> None:
    """Refuse what cannot be written before the work, not after it."""
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written; give --sheet the name of a .png file in a folder that exists")


def _draw_sheet(faceset: Faceset, path: Path, faces: int) -> None:
    import cv2

    from realtime.files import explain, write_atomically
    from training.faceset_figures import draw_sheet

    _, png = cv2.imencode(".png", draw_sheet(faceset, faces))
    try:
        write_atomically(path, png.tobytes())
    except OSError as error:
        raise UsageError(explain(error, path)) from error


def _merge(args: argparse.Namespace, screen: Screen) -> int:
    from training.faceset_edit import merge

    picks, twice = merge([_open(path) for path in args.facesets], different_people=args.different_people)
    return _write(picks, {"twice": twice} if twice else {}, args, screen, "merge")


def _split(args: argparse.Namespace, screen: Screen) -> int:
    from training.faceset_edit import split_by, split_by_count, split_by_time, write_parts

    faceset = _open(args.faceset)
    if args.by == "time":
        parts = split_by_time(faceset, args.share)
    elif args.by == "count":
        if args.count is None:
            raise UsageError("--by count needs --count N, the number of faces in the first set")
        parts = split_by_count(faceset, args.count, args.seed)
    else:
        parts = split_by(faceset, args.by)
    with screen.progress("split") as meter:
        hashes = write_parts(faceset, parts, args.out, lambda i: meter.update(i, len(faceset)))
    rows = [{"name": name, "faces": len(parts[name]), "sha256": sha256} for name, sha256 in hashes.items()]
    for row in rows:
        screen.say(f"{args.out / str(row['name'])}: {row['faces']} faces")
    front.write_json(args.json, {"out": str(args.out), "parts": rows})
    return 0


def _prune(args: argparse.Namespace, screen: Screen) -> int:
    from training.faceset_edit import pick
    from training.faceset_prune import PruneRules, prune

    rules = PruneRules(
        min_sharpness=args.min_sharpness,
        min_native_px=args.min_native_px,
        yaw=args.yaw and tuple(args.yaw),
        pitch=args.pitch and tuple(args.pitch),
        person=args.person,
        max_covered=args.max_covered,
        duplicates=args.duplicates,
        count=args.count,
    )
    faceset = _open(args.faceset)
    with screen.progress("look at faces") as meter:
        kept, left_out = prune(faceset, rules, lambda i: meter.update(i, len(faceset)))
    if not kept:
        raise UsageError(f"no face of {args.faceset} would stay ({_reasons(left_out)}); ask for less")
    return _write(pick(faceset, kept), left_out, args, screen, "prune")


def _sort(args: argparse.Namespace, screen: Screen) -> int:
    from training.faceset_edit import pick, sort_by
    from training.faceset_figures import FIGURES, figure

    if args.by not in FIGURES:
        raise UsageError(f"faces cannot be sorted by {args.by!r}; give one of {', '.join(FIGURES)}")
    faceset = _open(args.faceset)
    with screen.progress("look at faces") as meter:
        values = figure(faceset, args.by, lambda i: meter.update(i, len(faceset)))
    return _write(pick(faceset, sort_by(faceset, values, descending=args.descending)), {}, args, screen, "sort")


def _write(
    picks: Sequence[Pick], left_out: dict[str, int], args: argparse.Namespace, screen: Screen, title: str
) -> int:
    """Write one new set and say so."""
    from training.faceset_edit import write_picks

    with screen.progress(title) as meter:
        sha256 = write_picks(picks, args.out, lambda i: meter.update(i, len(picks)))
    screen.say(f"{args.out}: {len(picks)} faces" + (f", left out: {_reasons(left_out)}" if left_out else ""))
    result: dict[str, Any] = {"faceset": str(args.out), "sha256": sha256, "faces": len(picks), "left_out": left_out}
    front.write_json(args.json, result)
    return 0


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _export(args: argparse.Namespace, screen: Screen) -> int:
    from training.export_dfl import VIEWS, export_dfl

    faceset = _open(args.faceset)
    with screen.progress("export") as meter:
        count = export_dfl(faceset, args.out, size=args.size, tell=lambda i: meter.update(i, len(faceset)))
    screen.say(f"{args.out}: {count} JPGs of type {VIEWS[faceset.kind][0]}, to train with DeepFaceLab")
    front.write_json(args.json, {"folder": str(args.out), "faces": count, "face_type": VIEWS[faceset.kind][0]})
    return 0


def _import(args: argparse.Namespace, screen: Screen) -> int:
    from training.import_faces import ImportConfig, ImportProgress, import_faces

    config = ImportConfig(
        size=args.size,
        coverage_kind=args.coverage_kind,
        fps=args.fps,
        min_native_px=args.min_native_px,
        alignments=args.alignments,
    )
    with screen.progress("import") as meter:

        def show(now: ImportProgress) -> None:
            meter.update(now.done, now.total, f"{now.stage}, {now.faces} faces")

        report = import_faces(args.source, args.out, config, show)
    screen.say(f"{args.out}: {report.faces} faces ({report.coverage_kind}) of {report.files} files")
    if report.refused:
        screen.note(f"left out: {_reasons(report.refused)}; the first: {report.sentences[0]}")
    if len(report.persons) > 1:
        counts = ", ".join(map(str, report.persons.values()))
        screen.note(f"{len(report.persons)} people seem to be in it, with {counts} faces; look at {args.out}/sheet.png")
    if report.made_up > 0.02:
        share = f"{100 * report.made_up:.0f} %"
        screen.note(f"{share} of the crops lies beyond the pictures and repeats their edge; --coverage-kind full: less")
    if report.masks_left_out:
        screen.note(f"{report.masks_left_out} files bring masks; facesets hold none, they were left out")
    front.write_json(args.json, report.to_json())
    return 0

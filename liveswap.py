"""The front door. A command line in, an exit code out; a package is imported when its subcommand runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime import __version__, front
from realtime.errors import UsageError
from realtime.plain_text import plain
from realtime.screen import Screen, log_lines
from training.command import add_train_flags, train
from training.coverage_command import add_coverage_flags, coverage
from training.extract_command import add_extract_flags, add_frames_flags, extract, frames
from training.faceset_command import add_faceset_actions

if TYPE_CHECKING:
    from realtime.align import CropGeometry
    from realtime.config import LiveConfig
    from realtime.dfm import Dfm
    from realtime.report import Progress, RunReport


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when done, 1 after a failure while running, 2 after a mistake in the call."""
    flags = sys.argv[1:] if argv is None else argv

    def run() -> int:
        args = build_parser().parse_args(flags)
        front.check_json(args.json)
        with log_lines(args.verbose, args.quiet):
            code: int = args.command(args, Screen(args.quiet, json_on_stdout=args.json == "-"))
            return code

    return front.answer(run, debug="--debug" in flags)


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their flags."""
    parser = front.Parser(prog="liveswap", description="Swaps a face in a live video stream or a video file.")
    parser.add_argument("--version", action="version", version=f"liveswap {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace, Screen], int], summary: str) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        each.set_defaults(command=run)
        front.add_common_flags(each)
        return each

    demo = command("demo", _demo, "run the whole product on two rendered actors")
    demo.add_argument("--out", type=front.path, default=Path("out"), metavar="DIR", help="default: out")
    demo.add_argument("--from-scratch", action="store_true", help="render, extract, train and export first; minutes")
    demo.add_argument("--seconds", type=front.positive, metavar="N", help="length of the performer's clip")

    add_extract_flags(command("extract", extract, "take the faces out of videos into a faceset"))
    add_frames_flags(command("frames", frames, "write the frames of a video as pictures"))

    facesets = "look at facesets, import, merge, split, prune, sort and export them"
    add_faceset_actions(commands.add_parser("faceset", help=facesets, description=f"{facesets.capitalize()}."))

    add_coverage_flags(command("coverage", coverage, "tell before training whether one set of faces covers another"))
    add_train_flags(command("train", train, "train the identity's face onto the performer's motion"))

    evaluate = command("evaluate", _evaluate, "score a run on its held-out faces")
    evaluate.add_argument("run", type=front.path, metavar="RUN")

    export = command("export", _export, "make a run into one .dfm model file")
    export.add_argument("run", type=front.path, metavar="RUN")
    export.add_argument("--out", type=front.path, required=True, metavar="NAME.dfm")
    export.add_argument("--subject", metavar="TEXT", help="whose face it is")
    export.add_argument("--consent", metavar="TEXT", help="how that person agreed")
    export.add_argument("--consent-file", type=front.path, metavar="FILE", help="the agreement, signed or recorded")
    export.add_argument(
        "--no-consent-statement", action="store_true", help="say in the model that nobody stated any consent"
    )
    export.add_argument("--exporter", metavar="TEXT", help="who makes the file")
    export.add_argument("--licence", metavar="TEXT", help="under which the model is given away")
    export.add_argument("--allowed-use", action="append", metavar="TEXT", help="what it may be used for; repeatable")
    export.add_argument("--require-badge", action="store_true", help="never to be shown without the AI mark")

    run = command("run", _run, "swap the face in a video or a stream")
    run.add_argument(
        "--model",
        type=front.path,
        action="append",
        dest="models",
        metavar="NAME.dfm",
        help="repeatable: the first runs, a key changes to the others",
    )
    run.add_argument(
        "--source",
        type=front.text,
        metavar="SRC",
        help="a video file or a folder of pictures; 0 or camera:NAME; rtsp://, http://, udp://, srt:// or rtmp://; "
        "screen; replay:DIR; pattern (a rendered performer)",
    )
    run.add_argument(
        "--sink",
        type=front.text,
        action="append",
        dest="sinks",
        metavar="SINK",
        help="preview, camera (virtual), a video file, udp://, srt:// or rtmp://, null; repeatable",
    )
    run.add_argument("--config", type=front.path, metavar="FILE.toml", help="settings; flags win over it")
    run.add_argument("--size", type=_size, metavar="WxH", help="ask the camera for this size")
    run.add_argument("--fps", type=front.positive, metavar="N", help="ask the camera for this rate; rate of a screen")
    run.add_argument(
        "--seek", type=front.number, dest="seek_s", metavar="S", help="begin so many seconds into the file"
    )
    run.add_argument("--loop", action="store_true", default=None, help="begin the file again at its end")
    run.add_argument("--mirror", action="store_true", default=None, help="exchange right and left")
    run.add_argument(
        "--microphone", type=front.text, nargs="?", const="default", metavar="NAME", help="its sound goes along"
    )
    run.add_argument("--face", type=_face, metavar="WHO", help="lock (default), largest, leftmost, all, 1, 2, ...")
    run.add_argument("--bystanders", choices=("show", "blur"), help="what becomes of everybody else's face")
    run.add_argument(
        "--on-miss", choices=("hold", "blur", "slate", "pass"), help="what to show when a frame was not swapped"
    )
    run.add_argument("--hold-ms", type=front.number, metavar="MS", help="how long the last swap stands in")
    run.add_argument("--latency-cap-ms", type=front.positive, metavar="MS", help="live: drop older frames")
    run.add_argument(
        "--no-badge", dest="badge", action="store_false", default=None, help="leave out the AI mark; it is logged"
    )
    run.add_argument(
        "--confirm-no-badge", action="store_true", help="confirm, once for each model, that --no-badge is meant"
    )
    run.add_argument(
        "--badge-language", type=front.text, metavar="XX", help="of the AI mark: en, de, fr, es, ja, zh, ...; auto"
    )
    run.add_argument(
        "--signing-certificate", type=front.path, metavar="FILE.pem", help="signs recordings; default: a local one"
    )
    run.add_argument("--signing-key", type=front.path, metavar="FILE.pem", help="the key of that certificate")
    run.add_argument("--run-log", type=front.path, metavar="FILE.jsonl", help="where runs are written down")
    run.add_argument("--record-input", type=front.path, metavar="DIR", help="keep the raw frames, to replay them")
    run.add_argument("--keep", type=front.path, metavar="DIR", help="where stills and recordings go; default: here")
    run.add_argument("--presets", type=front.path, metavar="FILE.toml", help="named settings; default: your own")
    run.add_argument("--preset", type=front.text, metavar="NAME", help="begin with these named settings")
    run.add_argument("--morph", type=front.number, metavar="0..1", help="for models that take it")
    run.add_argument("--coverage", type=front.positive, metavar="C", help="overrides how much of a head the model sees")
    run.add_argument("--offset-x", type=front.number, metavar="X", help="overrides the model's crop offset")
    run.add_argument("--offset-y", type=front.number, metavar="Y", help="overrides the model's crop offset")
    run.add_argument("--colour", choices=("match", "none"), help="take the colours of the performer's face or not")
    run.add_argument("--colour-strength", type=front.number, metavar="0..1")
    run.add_argument("--erode", type=front.number, metavar="F", help="shrink the mask, in sides of the crop")
    run.add_argument("--feather", type=front.number, metavar="F", help="width of the soft edge, in sides of the crop")
    run.add_argument("--sharpen", type=front.number, metavar="0..1", help="sharpen the painted face")
    run.add_argument("--opacity", type=front.number, metavar="0.5..1")
    run.add_argument("--scale", type=front.positive, metavar="F", help="show the face larger or smaller; default: 1")
    run.add_argument("--shift-x", type=front.number, metavar="F", help="move the face right, in sides of the crop")
    run.add_argument("--shift-y", type=front.number, metavar="F", help="move the face down, in sides of the crop")
    run.add_argument("--threads", type=front.count, metavar="N", help="processor threads of the engine")

    bench = command("bench", _bench, "measure speed and latency on this machine")
    bench.add_argument("--model", type=front.path, metavar="NAME.dfm", help="default: the demo model")
    bench.add_argument("--source", type=front.path, metavar="VIDEO", help="default: a rendered performer")
    bench.add_argument(
        "--modes", type=front.text, default="A,B", metavar="A,B", help="A serial, B threaded; default: both"
    )
    bench.add_argument("--seconds", type=front.positive, default=10.0, metavar="N", help="per mode; default: 10")
    bench.add_argument("--threads", type=front.count, metavar="N", help="processor threads of the engine")
    bench.add_argument(
        "--compare", type=front.path, nargs=2, metavar=("A.json", "B.json"), help="print how B does against A, and end"
    )

    provenance = command("provenance", _provenance, "show what a recording or a still says about itself")
    provenance.add_argument("file", type=front.path, metavar="FILE")

    command("devices", _devices, "list cameras and microphones")
    command("doctor", _doctor, "tell what works on this machine and what to install")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and text.isascii() and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 1280x720")
    return int(width), int(height)


def _face(text: str) -> str | int:
    return front.count(text) if text.isascii() and text.isdigit() else text


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _demo(args: argparse.Namespace, screen: Screen) -> int:
    from export.demo import run_demo

    with screen.progress("demo") as meter:

        def show(stage: str, share: float) -> None:
            meter.update(share, 1.0, stage)

        report = run_demo(args.out, from_scratch=args.from_scratch, seconds=args.seconds, on_progress=show)
    screen.say(f"  {'':22}{'swap':>10}{'no swap':>10}")
    for name, unswapped in report["baseline"].items():
        screen.say(f"  {name:22}{_figure(report[name]):>10}{_figure(unswapped):>10}")
    latency = report["latency_ms"]
    screen.say(
        f"live: {report['fps']:.1f} fps, latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms; "
        f"{report['raw_face_frames']} of {report['frames_out']} frames raw\n"
        f"look at {args.out / 'demo.mp4'} and {args.out / 'sheet.png'}; all figures are in {args.out / 'report.json'}"
    )
    front.write_json(args.json, report)
    return 0


def _evaluate(args: argparse.Namespace, screen: Screen) -> int:
    from training.evaluate import evaluate

    result = evaluate(args.run).to_json()
    screen.say("\n".join([*front.lines(result), f"look at {args.run / 'sheet.png'}"]))
    front.write_json(args.json, result)
    return 0


def _export(args: argparse.Namespace, screen: Screen) -> int:
    from export.statement import state
    from export.to_onnx import export_run

    statement = state(
        args.subject,
        args.consent,
        file=args.consent_file,
        none=args.no_consent_statement,
        exporter=args.exporter,
        licence=args.licence,
        uses=args.allowed_use or (),
        badge_required=args.require_badge,
    )
    report = export_run(args.run, args.out, statement)
    screen.say(
        f"{args.out}: ONNX Runtime and torch agree to {report.max_abs:.2g} at most, {report.psnr_db:.1f} dB; "
        f"use it with: liveswap run --model {args.out} --source VIDEO --sink SWAPPED.mp4"
    )
    front.write_json(args.json, report.to_json())
    return 0


def _run(args: argparse.Namespace, screen: Screen) -> int:
    from realtime.live import Live
    from realtime.sinks import check_sink

    config = _live_config(args)
    for spec in config.sinks:
        check_sink(spec)
    _refuse_twice(config.sinks)
    if not config.badge:
        _ask_for_no_badge(config, args.confirm_no_badge)
    if args.config is None:
        for name, given, example in (
            ("source", args.source, "0 for the first camera, a video, or pattern"),
            ("sink", args.sinks, "preview, or a video"),
        ):
            if given is None:
                raise UsageError(f"no {name} was given; add --{name}: {example}")
    with _stop_on_sigterm() as stop, screen.progress("run") as meter:
        live = Live(
            config,
            geometry=lambda model: _geometry(model, config, args),
            stop=stop,
            tell=screen.note,
            announce=lambda model: _show_card(model, screen),
        )
        card_shown = False

        def show(now: Progress) -> None:
            nonlocal card_shown
            if now.done and not card_shown:  # everything is open and the first frame is through
                card_shown = True
                _show_card(live.model, screen)
            meter.update(now.done, now.total, f"{now.done} frames, {now.fps:.1f} fps, {now.state}")

        report = live.run(show)
    screen.say(_summary(report))
    for path in live.desk.kept:
        if path.exists():
            screen.say(f"kept {path}")
    front.write_json(args.json, report.to_dict())
    for name, sentence in report.failed_sinks.items():
        screen.warn(f"{name} was lost on the way: {sentence}")
    if report.stopped and (not live.live or (live.writes_files and not report.frames_out)):
        return front.STOPPED
    if report.fruitless:
        screen.warn(report.fruitless)
    return 1 if report.failed_sinks or report.fruitless else 0


def _ask_for_no_badge(config: LiveConfig, confirmed: bool) -> None:
    """Let the person confirm, once for each model, that the AI mark is to be left out."""
    from realtime.dfm import read_dfm
    from realtime.waiver import Waivers

    waivers = Waivers()
    missing = waivers.missing([read_dfm(path) for path in (config.model, *config.more_models)])
    if not missing:
        return
    names = ", ".join(model.path.name for model in missing)
    if not confirmed and sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write(
            f"Without the AI mark nobody can see that {names} is at work. Do all who will watch know it? [yes/no] "
        )
        sys.stderr.flush()
        confirmed = sys.stdin.readline().strip().lower() == "yes"
    if not confirmed:
        raise UsageError(f"--no-badge is not confirmed for {names}; leave it out, or add --confirm-no-badge once")
    waivers.confirm(missing)


def _refuse_twice(sinks: Sequence[str]) -> None:
    from realtime.sinks import is_file

    places = [os.path.realpath(spec) if is_file(spec) else spec for spec in sinks if spec != "null"]
    if len(set(places)) < len(places):
        raise UsageError("two sinks are the same; give every --sink a name of its own")


def _bench(args: argparse.Namespace, screen: Screen) -> int:
    from realtime import bench

    if args.compare:
        rows = bench.compare(*(bench.read_result(path) for path in args.compare))
        screen.say("\n".join(bench.comparison_lines(rows)))
        front.write_json(args.json, {"rows": rows})
        return 0
    modes = tuple(mode.strip().upper() for mode in args.modes.split(","))
    with screen.progress("bench") as meter:

        def show(done: float, total: float, note: str) -> None:
            meter.update(done, total, note)

        result = bench.run_bench(
            args.model, source=args.source, modes=modes, seconds=args.seconds, threads=args.threads, on_progress=show
        )
    screen.say("\n".join(bench.lines(result)))
    front.write_json(args.json, result)
    return 0


def _provenance(args: argparse.Namespace, screen: Screen) -> int:
    from realtime.provenance import read_manifest, sentences

    told = read_manifest(args.file)
    screen.say("\n".join([f"{args.file}:", *(f"  {line}" for line in sentences(told))]))
    front.write_json(args.json, told)
    if told["state"] == "Invalid":
        screen.warn(f"{args.file} was changed after it was signed; do not believe what it says")
        return 1
    return 0


def _devices(args: argparse.Namespace, screen: Screen) -> int:
    from realtime.devices import list_cameras, list_microphones

    cameras, microphones = list_cameras(), list_microphones()
    screen.say("cameras:" if cameras else "no camera was found")
    for camera in cameras:
        screen.say(f"  {camera.index}  {camera.name}" + ("  (virtual)" if camera.virtual else ""))
    screen.say("microphones:" if microphones else "no microphone was found")
    for microphone in microphones:
        screen.say(f"  {microphone.name}")
    front.write_json(
        args.json,
        {"cameras": [asdict(each) for each in cameras], "microphones": [asdict(each) for each in microphones]},
    )
    return 0


def _doctor(args: argparse.Namespace, screen: Screen) -> int:
    from realtime.doctor import examine

    report = examine()
    screen.say("\n".join(report.lines()))
    front.write_json(args.json, report.to_dict())
    return 0 if report.ok else 1


def _live_config(args: argparse.Namespace) -> LiveConfig:
    """Defaults, then --config, then the flags."""
    from realtime.config import load_config

    names = "source sinks size fps seek_s loop mirror microphone face bystanders on_miss hold_ms latency_cap_ms badge"
    names += " badge_language signing_certificate signing_key run_log"
    names += " record_input keep presets preset morph coverage threads"
    flags = front.given(args, *names.split())
    if args.models:
        flags["model"], *more = args.models
        flags["more_models"] = tuple(more)
    config = _with_preset(load_config(args.config, flags), flags)
    try:
        names = "colour colour_strength erode feather sharpen opacity scale shift_x shift_y"
        blend = replace(config.blend, **front.given(args, *names.split()))
    except ValueError as error:
        raise UsageError(f"{error}; see liveswap run --help") from error
    return replace(config, blend=blend)


def _with_preset(config: LiveConfig, flags: dict[str, Any]) -> LiveConfig:
    """The settings with those of the preset in them; flags win over it."""
    if config.preset is None:
        return config
    from realtime.presets import default_path, find_preset

    knobs = find_preset(config.presets or default_path(), config.preset)
    return replace(config, blend=knobs.blend, morph=flags.get("morph", knobs.morph))


def _geometry(model: Dfm, config: LiveConfig, args: argparse.Namespace) -> CropGeometry:
    """What the model sees of a head: what it says itself unless the settings or the flags say otherwise."""
    offset_x, offset_y = config.offset or (model.geometry.offset_x, model.geometry.offset_y)
    try:
        return replace(
            model.geometry,
            coverage=model.geometry.coverage if config.coverage is None else config.coverage,
            offset_x=offset_x if args.offset_x is None else args.offset_x,
            offset_y=offset_y if args.offset_y is None else args.offset_y,
        )
    except ValueError as error:
        raise UsageError(f"{error}; leave out --coverage, --offset-x and --offset-y to use the model's own") from error


_CARD_LETTERS = 300
"""Of one line of a model's card; the file keeps what was cut."""


def _show_card(model: Dfm, screen: Screen) -> None:
    """Who the model shows, how that person agreed, who says so; a model may claim anything."""
    from realtime.dfm import NOT_STATED

    subject, consent, by = (model.says(name)[:_CARD_LETTERS] for name in ("subject", "consent", "exporter"))
    screen.note(f"model {model.path.name}: {subject or 'subject unknown'}; consent: {consent or 'not stated'}")
    document = model.card.get("consent_document")
    if isinstance(document, dict):
        screen.note(f"  signed document: {plain(document.get('name'), 60)}, {plain(document.get('sha256'), 64)}")
    if by or model.says("created"):
        screen.note(f"  exported by {by or 'somebody who is not named'}, {model.says('created')[:20] or 'no date'}")
    for name, title in (("licence", "licence"), ("allowed_uses", "may be used for"), ("badge", "AI mark")):
        if words := model.says(name)[:_CARD_LETTERS]:
            screen.note(f"  {title}: {words}")
    if subject in ("", NOT_STATED) or consent in ("", NOT_STATED):
        screen.warn(
            "this model does not say whose face it shows and that the person agreed; make sure before you use it"
        )


def _summary(report: RunReport) -> str:
    dropped = sum(report.dropped.values())
    sound = "".join(f"; {name}: sound {ms:+.0f} ms against the picture" for name, ms in report.av_offset_ms.items())
    if not report.frames_out:
        return f"{report.frames_in} frames came in, nothing was published"
    latency = f"latency p95 {report.latency_ms['p95']:.0f} ms"
    return (
        f"{report.frames_out} of {report.frames_in} frames, {report.states.get('live', 0)} swapped, "
        f"{report.fps:.1f} fps, {latency}, {dropped} dropped, {report.raw_face_frames} raw{sound}"
    )


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGHUP set, so that a service manager ends a run as Ctrl-C does: files are finished."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # SIGHUP: the terminal was closed, or the connection to it is gone.
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())

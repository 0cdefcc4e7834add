"""Trains from a command line. Flags in; progress, a summary and an exit code out.

`liveswap train` and `python -m training` are this command. It loads torch only when it runs.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from realtime import front
from realtime.errors import UsageError
from realtime.screen import Screen

if TYPE_CHECKING:
    from training.config import TrainConfig


AUTO = "auto"
DEFAULT_PRESET = "light-128"


def leads() -> bool:
    """Whether this process speaks: it is the only one, or number 0 of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """What there is to say about a run."""
    who = {"identity": "who appears in the result", "performer": "who is in front of the camera"}
    for name, meaning in who.items():
        parser.add_argument(name, type=front.path, nargs="?", metavar=f"{name.upper()}_FACESET", help=meaning)
    parser.add_argument("--out", type=front.path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"tiny-64, light-128, base-192, df-256, large-320 or a TOML file; default: {DEFAULT_PRESET}; "
        "list: what each of them costs and gives",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=front.positive, metavar="N", help="how long to train")
    length.add_argument("--iterations", type=front.count, metavar="N", help="how many steps to train")
    parser.add_argument(
        "--until-plateau",
        action="store_true",
        help="go on until the held-out score hardly rises; --minutes and --iterations are then upper limits",
    )
    parser.add_argument(
        "--many-performers",
        action="store_true",
        help="each source of the performer's faceset shows another person: a model for all of them, and for others",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="N",
        help="faces of each person per step, over all processes; auto: measure what fits and is fastest",
    )
    parser.add_argument(
        "--accumulate", type=front.count, metavar="N", help="parts of a batch that are computed in turn: less memory"
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="auto: bf16 where the processor has it")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--threads", type=front.count, metavar="N", help="processor threads of each process")
    parser.add_argument("--resume", action="store_true", help="go on where RUN stopped")


def train(args: argparse.Namespace, screen: Screen) -> int:
    """Train, alone or as one of the processes that torchrun has started; of those only number 0 speaks."""
    if args.preset == "list":
        return _list_presets(args, screen)
    if args.identity is None or args.performer is None or args.out is None:
        raise UsageError("train needs IDENTITY_FACESET, PERFORMER_FACESET and --out RUN; `liveswap train --help` tells")
    from training.config import load_recipe
    from training.train import TrainProgress
    from training.train import train as train_run

    _refuse_what_a_run_keeps(args)
    config = load_recipe(args.preset or DEFAULT_PRESET)
    measured = args.batch == AUTO and not _begun(args)
    if args.batch == AUTO and not measured:
        args.batch = None  # the run knows what was measured
    given = front.given(args, "batch", "accumulate", "seed", "threads", "precision")
    if measured:  # it is a multiple of the parts, whatever is measured
        given["batch"] = args.accumulate or config.accumulate
    config = replace(config, **given)
    if args.until_plateau:
        config = replace(config, until_plateau=True, minutes=None, iterations=None)
    if args.many_performers:
        config = replace(config, many=True)
    if measured:
        config = replace(config, batch=_fitting(args, config, screen))
    with screen.progress("train") as meter:

        def show(now: TrainProgress) -> None:
            held_out = "" if now.held_out is None else f", held-out {now.held_out:.4f}"
            held_out += "" if now.gain_per_hour is None else f" ({now.gain_per_hour:+.4f} an hour)"
            note = f"step {now.iteration}, loss {now.loss:.4f}{held_out}, {now.samples_per_s:.0f} faces/s"
            total = None if now.eta_s is None else now.elapsed_s + now.eta_s
            meter.update(now.elapsed_s, total, note, left_s=now.eta_s)

        summary = train_run(
            args.identity,
            args.performer,
            args.out,
            config,
            resume=args.resume,
            minutes=args.minutes,
            iterations=args.iterations,
            on_progress=show,
        )
    if leads():
        screen.say("\n".join(front.lines(summary.to_json())))
        front.write_json(args.json, summary.to_json())
        if not summary.iterations_done:
            screen.note("this run has had all its steps; give more --minutes or --iterations to go on")
        if summary.stopped_early:
            screen.note("stopped before the end; the same command with --resume goes on")
    return front.STOPPED if summary.stopped_early else 0


def _begun(args: argparse.Namespace) -> bool:
    from training.checkpoint import RUN

    return bool(args.resume) and (args.out / RUN).is_file()


def _refuse_what_a_run_keeps(args: argparse.Namespace) -> None:
    """Raises UsageError when a flag asks a run that goes on for something else than it was begun with."""
    if not leads() or not _begun(args):
        return
    from training.checkpoint import read_run
    from training.config import load_recipe

    own = read_run(args.out).config
    asked = front.given(args, "batch", "accumulate", "seed") | {
        name: True for name in ("until_plateau", "many_performers") if getattr(args, name)
    }
    kept = {name: own.many if name == "many_performers" else getattr(own, name) for name in asked}
    for name, value in asked.items():
        if value not in (AUTO, kept[name]):
            flag = "--" + name.replace("_", "-")
            was = "without it" if value is True else f"with {kept[name]}"
            raise UsageError(f"{args.out} was begun {was}; leave {flag} out, or give another --out")
    if args.preset is not None and (other := _first_difference(load_recipe(args.preset), own)):
        raise UsageError(
            f"{args.out} was begun with {other}, unlike {args.preset}; leave --preset out, or give another --out"
        )


_OF_FLAGS = ("name", "about", "batch", "accumulate", "seed", "threads", "precision", "until_plateau", "many")
_OF_BUDGET = ("minutes", "iterations")


def _first_difference(recipe: TrainConfig, own: TrainConfig) -> str | None:
    """The first setting by which a run is another one than the recipe makes, but for what flags set: name and value."""
    if own.many:
        recipe = replace(recipe, model=replace(recipe.model, people=own.model.people))
    wanted, kept = recipe.to_dict(), own.to_dict()
    for section in ("model", "augment", "loss"):
        for values in (wanted, kept):
            values |= {f"{section}.{name}": value for name, value in values.pop(section).items()}
    aside = {*_OF_FLAGS, *_OF_BUDGET}
    differing = (name for name, value in kept.items() if name not in aside and wanted[name] != value)
    return next((f"{name} = {kept[name]}" for name in differing), None)


def _list_presets(args: argparse.Namespace, screen: Screen) -> int:
    from training.preset_list import preset_table
    from training.presets import preset_rows

    rows = preset_rows()
    screen.say(preset_table(rows))
    front.write_json(args.json, {"presets": [row.to_json() for row in rows]})
    return 0


def _batch(text: str) -> int | str:
    return AUTO if text == AUTO else front.count(text)


def _fitting(args: argparse.Namespace, config: TrainConfig, screen: Screen) -> int:
    """The batch that trains most faces a second on this machine; it is said what was measured."""
    from training.batch_finder import find_batch
    from training.batches import stack_bytes
    from training.faceset import Faceset

    if "RANK" in os.environ:
        raise UsageError("--batch auto measures one process; measure without torchrun, then give torchrun the number")
    counts = [len(Faceset.open(path, verify=False)) for path in (args.identity, args.performer)]
    faces = sum(stack_bytes(count, config.geometry.size) for count in counts)
    found = find_batch(config, reserve_bytes=faces)
    screen.note(
        f"batch {found.fastest}: {found.seconds_per_step:.2f} s a step at {found.batch}, the largest that fits "
        f"({found.peak_bytes / 2**30:.1f} of {found.limit_bytes / 2**30:.1f} GB)"
    )
    return found.fastest

"""Writes the page that tells how a run went. A run folder in, RUN/report.html out.

Note [Report]
    One file as Note [Pages] says; it names folders, not paths.

    What it shows comes from run.json, history.json, the sheets and the event files, see Note [Journal].
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from realtime import machine
from realtime.errors import TrainingError
from realtime.files import explain
from training import checkpoint
from training.checkpoint import RunRecord
from training.evaluate import LOST_BELOW, worth
from training.journal import EVENTS, HISTORY, Entry, list_sheets
from training.page import embed_file, escape, facts, figure, page, tiles
from training.plateau import forecast
from training.run_curves import Chart, Points, draw

REPORT = "report.html"
_MOST_POINTS = 400
"""Of one curve of the event files; more cannot be seen."""
_NOT_SHOWN = ("images", "tensors", "histograms", "compressedHistograms", "audio")
_LARGEST_FILE = 64 << 20
_TAG = re.compile(r"[\w./ -]{1,80}", re.ASCII)

_MEANINGS = {
    "score": ("Repainting", ".3f", "similarity of both people, repainted, to faces never trained on; 1 is equal"),
    "identity_margin": ("Identity", ".2f", "whom the swap looks like: 0 the performer, 1 the identity"),
    "expression_followed": ("Expression", ".0%", "share of the motion of lips, lids and brows that is made, too"),
    "expression_error_iod": ("Expression error", ".1%", "distance from the performer's motion, in eye distances"),
    "pose_error_deg": ("Pose error", ".1f", "degrees by which the head turns otherwise; 2 is the error of measuring"),
    "flicker": ("Flicker", ".1f", "grey levels of change that the performer did not make"),
    "swap_found": ("Found", ".0%", "share of swaps in which a face is seen"),
    "critic_accuracy": ("Critic", ".0%", "share of held-out faces that the judge of the identity tells apart"),
}
"""By figure: its title, how it is printed, and what it means."""
_LOST = {
    "swap_found": "no face is seen in it",
    "identity_margin": "it still looks like the performer",
    "expression_followed": "it does not follow the performer's expression",
}


def write_report(run: Path) -> Path:
    """Write RUN/report.html from what the run has written so far, and return its path.

    Raises TrainingError: one sentence, for a folder without a run, a damaged one, or a disk that cannot be written.
    """
    record, history = checkpoint.read_run(run), read_history(run)
    path = run / REPORT
    checkpoint.write_file(path, _page(run, record, history, read_scalars(run)))
    return path


def read_history(run: Path) -> list[Entry]:
    """The looks of a run, oldest first; none when nothing was looked at. Raises TrainingError when it is damaged."""
    path = run / HISTORY
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("too large")
        entries = json.loads(path.read_text(encoding="utf-8"))
        history = [{str(name): float(value) for name, value in entry.items()} for entry in entries]
        if not all("iteration" in e and all(map(math.isfinite, e.values())) for e in history):
            raise ValueError("no looks")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(explain(error, path)) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged; remove it, the next look writes a new one") from error
    return history


def read_scalars(run: Path) -> dict[str, Points]:
    """The curves of the event files by tag; none where there are no event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not (run / EVENTS).is_dir():
        return {}
    limits = {
        "scalars": _MOST_POINTS,
        "images": 1,
        "tensors": 1,
        "histograms": 1,
        "compressedHistograms": 1,
        "audio": 1,
    }
    with _quiet("tensorboard"):
        events = EventAccumulator(str(run / EVENTS), size_guidance=limits).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if _TAG.fullmatch(tag)]
    curves = {tag: [(float(e.step), float(e.value)) for e in events.Scalars(tag)] for tag in tags}
    return {tag: [p for p in points if math.isfinite(p[1])] for tag, points in curves.items()}


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of a library's logger: a resumed run is nothing to warn of."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def verdict(history: Sequence[Entry]) -> str:
    """What the looks say, in one or two sentences for the person who trains."""
    if not history:
        return "No look at the held-out faces yet: there is nothing to say."
    best = _best(history)
    if best is None:
        return "Every look found broken weights: train again with a lower learning_rate."
    lost = [why for name, why in _LOST.items() if best.get(name, math.inf) < LOST_BELOW[name]]
    if lost:
        said = f"This is not a swap yet: {' and '.join(lost)}."
    else:
        parts = []
        if "identity_margin" in best:
            parts.append(f"looks like the identity ({best['identity_margin']:.2f}, where 1 is the identity itself)")
        if "expression_followed" in best:
            parts.append(f"follows {max(0.0, best['expression_followed']):.0%} of the performer's expression")
        parts.append(f"was painted by a model that repaints unseen faces with a similarity of {best['score']:.3f}")
        said = f"The swap {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}."
    timed = all("elapsed_s" in entry for entry in history)
    # A budget lets the rate fall at its end, whatever the slope was before: "flat" would be premature.
    outlook = forecast(history, rate_will_fall=True) if timed else None
    return said + (f" Outlook: {outlook.words.replace(':', ',')}." if outlook is not None else "")


def _best(history: Sequence[Entry]) -> Entry | None:
    """The look that is worth most; one at broken weights has no score, and says nothing."""
    return max((entry for entry in history if "score" in entry), key=worth, default=None)


def _charts(history: Sequence[Entry], scalars: Mapping[str, Points]) -> list[Chart]:
    def looks(*names: str) -> dict[str, Points]:
        return {name: [(e["iteration"], e[name]) for e in history if name in e] for name in names}

    def steps(prefix: str) -> dict[str, Points]:
        return {tag.removeprefix(prefix): points for tag, points in scalars.items() if tag.startswith(prefix)}

    return [
        Chart("Held-out score", "similarity", looks("score", "identity_ssim", "performer_ssim")),
        Chart("Losses", "loss", {"total": scalars.get("loss", ())} | steps("loss/"), logarithmic=True),
        Chart("Whose face it is", "identity margin", looks("identity_margin"), marks=(0.0, 1.0)),
        Chart("Expression that is followed", "share", looks("expression_followed"), marks=(0.0, 1.0)),
        Chart("Expression error", "eye distances", looks("expression_error_iod")),
        Chart("Pose error", "degrees", looks("pose_error_deg")),
        Chart("Flicker", "grey levels", looks("flicker")),
        Chart("Learning rate", "rate", {"rate": scalars.get("rate", ())}, logarithmic=True),
        Chart("Gradient", "norm", {"gradient_norm": scalars.get("gradient_norm", ())}, logarithmic=True),
        Chart("Speed", "faces a second", {"samples_per_s": scalars.get("samples_per_s", ())}),
    ]


def _page(run: Path, record: RunRecord, history: Sequence[Entry], scalars: Mapping[str, Points]) -> str:
    best = _best(history)
    drawings = ((chart, draw(chart, best["iteration"] if best else None)) for chart in _charts(history, scalars))
    curves = "".join(figure(chart.title, svg) for chart, svg in drawings)
    name = escape(record.config.name)
    body = f"""<h1>{name} <small>{escape(run.resolve().name)}</small></h1>
<p class="verdict">{escape(verdict(history))}</p>
{_tiles(best)}
{_sheets(run)}
<h2>Curves</h2>
<p class="note">The dotted line is the best checkpoint.</p>
<section class="curves">{curves}</section>
<h2>The run</h2>
{_facts(record, history, best)}"""
    return page(f"{record.config.name}: {run.resolve().name}", body, _STYLE)


def _tiles(best: Entry | None) -> str:
    """The figures of the best checkpoint."""
    shown = () if best is None else ((name, best[name]) for name in _MEANINGS if name in best)
    titled = ((*_MEANINGS[name], value) for name, value in shown)
    return tiles((title, f"{value:{form}}", meaning) for title, form, meaning, value in titled)


def _sheets(run: Path) -> str:
    """The first, the middle and the last sheet."""
    sheets = list_sheets(run)
    if not sheets:
        return ""
    half = (int(sheets[0].stem) + int(sheets[-1].stem)) / 2
    middle = min(sheets, key=lambda path: abs(int(path.stem) - half))
    shown = {middle: "Middle", sheets[-1]: "Last", sheets[0]: "First"}
    figures = []
    for path, title in sorted(shown.items()):
        try:
            if path.stat().st_size > _LARGEST_FILE:
                continue
            data = path.read_bytes()
        except OSError:  # the loop that draws sheets also removes them
            continue
        what = f"{title} look, step {int(path.stem)}"
        figures.append(figure(what, embed_file(data, "jpeg", what)))
    return f'<h2>Held-out faces</h2><section class="sheets">{"".join(figures)}</section>'


def _facts(record: RunRecord, history: Sequence[Entry], best: Entry | None) -> str:
    config, here = record.config, machine.describe()
    rows = [("Recipe", f"{config.name}: {config.about}" if config.about else config.name)]
    for side, held in record.facesets.items():
        rows.append((side.capitalize(), f"{Path(held['path']).name}, {held['faces']} faces"))
    model = config.model
    rows.append(("Model", f"{model.family}, {model.resolution} pixels, crop {config.crop}"))
    rows.append(
        ("Training", f"{config.optimizer}, batch {config.batch}, rate {config.learning_rate:g}, seed {config.seed}")
    )
    if history:
        elapsed_s = history[-1].get("elapsed_s")
        took = f" in {_span(elapsed_s)}" if elapsed_s is not None else ""
        rows.append(("Trained", f"{history[-1]['iteration']:.0f} steps{took}, {len(history)} looks"))
    if best is not None:
        rows.append(("Best checkpoint", f"step {best['iteration']:.0f}, score {best['score']:.4f}"))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    rows.append(("Machine", f"{here['cpu']}, {here['cores']} cores, {gpu}, {here['os']}"))
    rows.append(("Software", f"Python {here['python']}, torch {torch.__version__}"))
    return facts(rows)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


_STYLE = ".curves figure,.sheets figure{flex:1 1 320px;max-width:410px}"

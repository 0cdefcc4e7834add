"""Compares what the coverage report predicted with what is true. Predictions and scored frames in, figures out.

Note [True score]
    The score of a frame is identity transfer, cut to 0 to 1, times the structural similarity inside the face: the first
    alone does not notice a soft face, the second alone ranks doing nothing above a visible swap. A frame that is not
    swapped scores 0, the score of a set is the mean over frames. Before, the painted face is put where it belongs by
    one similarity for each model, see Note [Placement] in export/placement.py, measured on other frames: how two heads
    fit over each other is no fault of a set, and moves transfer by more than most defects do.

    The error of one frame is one minus the similarity alone, and one where nothing is swapped: transfer divides by how
    far apart the two people look, which averages out over frames, but in a single frame says more of light and pose
    than of the swap. `auc_by_score` takes one minus the score all the same. What is asked for:

        spearman     rank correlation of predicted and true score over the sets of a cast, mean over casts: 0.8
        auc          chance that a frame from the worst quarter was given a higher risk than one from the rest: 0.75

    AUC over the frames of all sets together also counts knowing which set is poor; `auc_within` looks at each set alone
    and is the mean over sets: does the report know which frames of one film will look worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.coverage_sets import DEFECTS
from realtime import machine

METRICS = "score", "identity_transfer", "face_ssim", "face_psnr_db"
WANTED = {"spearman": 0.8, "auc": 0.75}
WORST = 0.25
"""Share of frames that count as the worst."""


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank. 0 where one of them does not vary."""
    first, second = _ranks(a), _ranks(b)
    if len(first) < 2 or not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], np.float64)


def auc(risk: Sequence[float], error: Sequence[float]) -> float | None:
    """Chance that a frame of the worst quarter by error has the higher risk; None where the quarter is all or none."""
    errors, risks = np.asarray(error), np.asarray(risk)
    worst = errors > np.quantile(errors, 1 - WORST)
    if not worst.any() or worst.all():
        return None
    higher = risks[worst][:, None] - risks[~worst][None]
    return float((higher > 0).mean() + (higher == 0).mean() / 2)


def make_report(
    results: Mapping[tuple[int, str], Mapping[str, Any]], predicted: Mapping[tuple[int, str], Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything that is published: a row for each set, and how well they were foretold."""
    rows = []
    for (cast, name), result in results.items():
        said = predicted[cast, name]
        means = {metric: float(np.mean([frame[metric] for frame in result["frames"]])) for metric in METRICS}
        seen = [frame for frame in result["frames"] if frame["index"] in said["risk"]]
        rows.append(
            {
                "cast": cast,
                "defect": name,
                "cause": next(each.cause for each in DEFECTS if each.name == name),
                **{key: said[key] for key in ("predicted", "level", "first", "sentence", "losses")},
                **{metric: round(value, 4) for metric, value in means.items()},
                "steps": result["steps"],
                "risk": [said["risk"][frame["index"]] for frame in seen],
                "error": [round(1 - frame["face_ssim"] * frame["swapped"], 4) for frame in seen],
                "score_error": [round(1 - frame["score"], 4) for frame in seen],
                "index": [frame["index"] for frame in seen],
            }
        )
    return {"rows": rows, **_figures(rows), "machine": machine.describe()}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    casts = sorted({row["cast"] for row in rows})
    by_cast = [[row for row in rows if row["cast"] == cast] for cast in casts]

    def correlation(metric: str) -> list[float]:
        return [round(spearman([r["predicted"] for r in own], [r[metric] for r in own]), 4) for own in by_cast]

    def chance(error: str) -> dict[str, float]:
        pairs = {
            str(cast): auc([v for row in own for v in row["risk"]], [v for row in own for v in row[error]])
            for cast, own in zip(casts, by_cast, strict=True)
        }
        return {cast: round(value, 4) for cast, value in pairs.items() if value is not None}

    within = [value for row in rows if (value := auc(row["risk"], row["error"])) is not None]
    named = [_names(row) for row in rows if row["cause"]]
    chances = chance("error")
    return {
        "spearman": round(float(np.mean(correlation("score"))), 4),
        "spearman_by_cast": dict(zip(map(str, casts), correlation("score"), strict=True)),
        "spearman_by_metric": {metric: round(float(np.mean(correlation(metric))), 4) for metric in METRICS},
        "auc": _mean(chances),
        "auc_by_cast": chances,
        "auc_by_score": _mean(chance("score_error")),
        "auc_within": round(float(np.mean(within)), 4) if within else None,
        "first_finding_right": f"{sum(named)} of {len(named)}",
        "wanted": WANTED,
    }


def _mean(values: Mapping[str, float]) -> float | None:
    return round(float(np.mean(list(values.values()))), 4) if values else None


def _names(row: Mapping[str, Any]) -> bool:
    """Whether the first finding is the planted cause."""
    return bool(row["first"].split(" ")[-1] == row["cause"])


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table of a report."""
    table = Table(title="What was predicted before training, and what the exact answer says after it")
    for title in ("cast", "set", "verdict", "first finding"):
        table.add_column(title)
    for title in ("predicted", "score", "transfer", "SSIM"):
        table.add_column(title, justify="right")
    for row in sorted(report["rows"], key=lambda row: (row["cast"], -row["score"])):
        figures = (row[name] for name in ("predicted", "score", "identity_transfer", "face_ssim"))
        table.add_row(
            str(row["cast"]), row["defect"], row["level"], row["first"] or "-", *(f"{value:.3f}" for value in figures)
        )
    console.print(table)
    console.print(
        f"Spearman {_known(report['spearman'])} (wanted {WANTED['spearman']}), "
        f"AUC of the worst quarter {_known(report['auc'])} (wanted {WANTED['auc']}), "
        f"inside one set {_known(report['auc_within'])}; planted cause named first: {report['first_finding_right']}"
    )


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Predicted against true score of every set, and how many bad frames are among the riskiest."""
    figure = Figure(figsize=(12.5, 5.2), layout="constrained")
    scatter, curve = figure.subplots(1, 2)
    for mark, cast in zip("osD^v<>", sorted({row["cast"] for row in report["rows"]}), strict=False):
        own = [row for row in report["rows"] if row["cast"] == cast]
        scatter.scatter(
            [r["predicted"] for r in own], [r["score"] for r in own], marker=mark, s=26, label=f"cast {cast}"
        )
        for row in own:
            at = (row["predicted"], row["score"])
            scatter.annotate(row["defect"], at, fontsize=7, xytext=(4, 3), textcoords="offset points")
        risk, error = (np.concatenate([row[name] for row in own]) for name in ("risk", "error"))
        worst = (error > np.quantile(error, 1 - WORST))[np.argsort(-risk, kind="stable")]
        looked_at = np.arange(1, len(worst) + 1) / len(worst)
        curve.plot(looked_at, np.cumsum(worst) / max(worst.sum(), 1), label=f"cast {cast}")
    curve.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=0.8, label="chance")
    scatter.set(xlabel="predicted share, before training", ylabel="true score, after training")
    scatter.set_title(f"Spearman {_known(report['spearman'])}", fontsize=10)
    curve.set(xlabel="share of frames, the riskiest first", ylabel="share of the worst quarter among them")
    curve.set_title(f"AUC {_known(report['auc'])}, inside one set {_known(report['auc_within'])}", fontsize=10)
    for axes in (scatter, curve):
        axes.grid(alpha=0.25)
        axes.margins(x=0.1)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)

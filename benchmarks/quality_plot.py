"""Draws scores over training time. The report of benchmarks.quality in, a picture out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

PANELS = {
    "identity_transfer": "identity transfer (1: the exact swap)",
    "face_ssim": "SSIM in the face",
    "face_psnr_db": "PSNR in the face, dB",
}


def draw_quality(report: Mapping[str, Any], path: Path) -> None:
    """One panel for each score: the mean of all seeds as a line, least to greatest as a band, over minutes."""
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for name, row in report["rows"].items():
            points = [point for point in row["curve"] if point[metric] is not None]
            minutes = [point["elapsed_s"]["mean"] / 60 for point in points]
            means, least, greatest = ([point[metric][kind] for point in points] for kind in ("mean", "min", "max"))
            challenger = name == report["challenger"]
            (line,) = axes.plot(minutes, means, marker="o", markersize=3, linewidth=2.4 if challenger else 1.4)
            line.set_label(name)
            axes.fill_between(minutes, least, greatest, color=line.get_color(), alpha=0.15, linewidth=0)
            if not challenger:
                axes.axhline(means[-1], color=line.get_color(), linestyle=":", linewidth=0.8)
        axes.axhline(report["no_swap"][metric], color="grey", linestyle="--", linewidth=0.8, label="no swap")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("minutes of training")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=8)
    cpu, cores = report["machine"]["cpu"], report["machine"]["cores"]
    seeds, threads = report["seeds"], report["threads"]
    figure.suptitle(f"{seeds} seeds, {threads} of {cores} cores ({cpu})", fontsize=9)
    figure.savefig(path, dpi=120)

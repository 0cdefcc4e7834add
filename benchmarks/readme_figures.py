"""Writes README's figures from the JSON they were measured into. benchmarks/results/demo*.json in, README.md out.

Run `python benchmarks/readme_figures.py` after a new demo.json was committed; a test fails while README says otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures of benchmarks/results/demo.json -->", "<!-- end of figures -->"
_ROWS = (
    ("identity_transfer", "identity transfer (0 the performer, 1 the exact swap)", "{:.2f}"),
    ("face_psnr_db", "PSNR in the face, dB", "{:.1f}"),
    ("face_ssim", "SSIM in the face", "{:.3f}"),
    ("landmark_error_iod", "landmark error, share of the eye distance", "{:.3f}"),
    ("outside_psnr_db", "PSNR outside the face, dB", "{:.1f}"),
    ("flicker", "flicker, grey levels", "{:.1f}"),
)


def figures(report: dict[str, Any], scratch: dict[str, Any]) -> str:
    """README's table for the report.json of `liveswap demo`, and a line for that of `liveswap demo --from-scratch`."""
    lines = ["| against the exact answer | swap | no swap |", "|---|---|---|"]
    for name, title, form in _ROWS:
        lines.append(f"| {title} | {form.format(report[name])} | {form.format(report['baseline'][name])} |")
    latency, machine, live = report["latency_ms"], report["machine"], report["live"]
    lines += [
        "",
        f"Live, 640x480 at 30 fps in: {report['fps']:.1f} fps out, {live['frames_out']} of {live['frames_in']} frames, "
        f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms; "
        f"{report['raw_face_frames']} raw frames.",
        f"Machine: {machine['cores']} cores of a shared {machine['cpu']}, no GPU, {machine['os']}, "
        f"onnxruntime {machine['versions']['onnxruntime']}.",
    ]
    minutes, steps = (scratch["model"]["training"][name] for name in ("minutes", "iterations"))
    lines += [
        "",
        f"From scratch (`liveswap demo --from-scratch`), after {minutes:.0f} minutes or {steps} steps of training: "
        f"identity transfer {scratch['identity_transfer']:.2f}, {scratch['face_psnr_db']:.1f} dB, "
        f"SSIM {scratch['face_ssim']:.3f}.",
    ]
    return "\n".join(lines)


def render(readme: str, report: dict[str, Any], scratch: dict[str, Any]) -> str:
    """README's text with the figures of both reports between the two marks. ValueError: a mark is missing."""
    head, rest = readme.split(START)
    _, tail = rest.split(END)
    return f"{head}{START}\n{figures(report, scratch)}\n{END}{tail}"


def reports() -> tuple[dict[str, Any], dict[str, Any]]:
    """The committed reports: of the shipped model, and from scratch."""
    folder = ROOT / "benchmarks/results"
    shipped, scratch = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("demo.json", "demo_from_scratch.json")
    )
    return shipped, scratch


def main() -> None:
    """Rewrite README.md in place."""
    readme = ROOT / "README.md"
    readme.write_text(render(readme.read_text(encoding="utf-8"), *reports()), encoding="utf-8")


if __name__ == "__main__":
    main()

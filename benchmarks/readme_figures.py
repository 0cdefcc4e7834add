"""Writes README's figures from the JSON they were measured into. benchmarks/results/*.json in, README.md out.

Run `python benchmarks/readme_figures.py` after a new result was committed; a test fails while README says otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures of benchmarks/results/demo.json -->", "<!-- end of figures -->"
LIVE_START, LIVE_END = "<!-- figures of the live loop -->", "<!-- end of live figures -->"
_LIVE = ("bench", "live_cpu", "overload", "soak", "occlusion")
"""Results that the live figures come from."""
_STAGES = {
    "detect": "find and choose the face",
    "align": "align",
    "infer": "model",
    "blend": "masks, colour, paste",
    "swap": "these four together",
    "guard": "guard",
    "badge": "AI mark",
}
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


def live_figures(results: dict[str, dict[str, Any]]) -> str:
    """README's figures of the live loop, from the results named in _LIVE."""
    bench, overload, soak = results["bench"], results["overload"], results["soak"]
    latency, live, machine = bench["latency_ms"], bench["modes"]["B"]["live"], bench["machine"]
    source, serial = bench["source"], bench["modes"]["A"]
    lines = [
        f"`{bench['model']['name']}` ({bench['model']['resolution']} px) at {source['width']}x{source['height']}, "
        f"{bench['engine']['threads']} engine thread, on {machine['cores']} cores of a shared {machine['cpu']}, "
        "no GPU: "
        f"**{bench['fps']:.0f} fps** at full speed; filmed at 30 fps, {live['fps']:.1f} fps come out, from capture to "
        f"publication p50 {latency['p50']:.0f}, **p95 {latency['p95']:.0f}**, p99 {latency['p99']:.0f} ms; "
        f"{serial['cpu_ms_per_frame']:.1f} ms of processor time a frame.",
        "",
        "| stage, ms | p50 | p95 | p99 |",
        "|---|---|---|---|",
    ]
    for name, title in _STAGES.items():
        stage = bench["stages"][name]
        lines.append(f"| {title} | {stage['p50']:.2f} | {stage['p95']:.2f} | {stage['p99']:.2f} |")
    lines += [
        "",
        f"*Overload* (the swap takes three times as long as a picture): {overload['reordered']} of the pictures out of "
        f"order, delay p99 {overload['latency_periods_p99']:.1f} picture periods, of which the swap takes "
        f"{overload['service_periods']:.1f}; never more than {overload['queue_max']} picture waits at a hand-off. "
        "With the queue rules of others, simulated with the same times, the delay grows to "
        f"{_others(overload)} periods.",
        "",
        f"*Soak*: {soak['frames']} frames with two people, hands, looks away and {soak['reconnects']} disconnects: "
        f"memory grew by {soak['rss_growth_mb']:.0f} MB, {soak['raw_face_frames']} raw faces, judged picture by "
        f"picture against the input; {soak['stuck_threads']} threads left.",
        "",
        _occlusion(results["occlusion"]),
        "",
        "*Beside DeepFaceLive*, whose stages were measured headless on another machine (the mesh network ran "
        f"{results['live_cpu']['machine_factor']:.1f} times as long there; scaled by that), with a `.dfm` "
        f"of {results['live_cpu']['model']['gmac']:.1f} GMAC of the same kind, one engine thread:",
        "",
        "| clip | ours, CPU ms a frame | DeepFaceLive, scaled | ratio | ours, fps, 2 cores | its bound there, fps |",
        "|---|---|---|---|---|---|",
    ]
    for name, clip in results["live_cpu"]["clips"].items():
        theirs = clip["cpu_ratio"] * clip["cpu_ms_per_frame"]
        lines.append(
            f"| {name} | {clip['cpu_ms_per_frame']:.1f} | {theirs:.0f} | {clip['cpu_ratio']:.1f} "
            f"| {clip['threaded_fps']:.0f} | {clip['deepfacelive']['bound_fps']:.0f} |"
        )
    return "\n".join(lines)


def _others(overload: dict[str, Any]) -> str:
    rules = overload["cases"]["slow swap"]["simulated_rules"]
    delays = {name: each["latency_periods_p99"] for name, each in rules.items() if name != "liveswap"}
    return ", ".join(f"{delay:.0f} ({name})" for name, delay in sorted(delays.items(), key=lambda item: item[1]))


def _occlusion(result: dict[str, Any]) -> str:
    before, now = (each for each in result["models"].values())
    return (
        f"*A hand in front of the face*: {100 * now['in_front']:.0f} % of its pixels stay in front, "
        f"{now['hand_psnr_db']:.1f} dB in the hand (a model trained without things in front of faces: "
        f"{100 * before['in_front']:.0f} %, {before['hand_psnr_db']:.1f} dB)."
    )


def render(readme: str, report: dict[str, Any], scratch: dict[str, Any], live: dict[str, dict[str, Any]]) -> str:
    """README's text with all figures between their marks. ValueError: a mark is missing."""
    head, rest = readme.split(START)
    _, tail = rest.split(END)
    readme = f"{head}{START}\n{figures(report, scratch)}\n{END}{tail}"
    head, rest = readme.split(LIVE_START)
    _, tail = rest.split(LIVE_END)
    return f"{head}{LIVE_START}\n{live_figures(live)}\n{LIVE_END}{tail}"


def live_results() -> dict[str, dict[str, Any]]:
    """The committed results of the live loop, by name."""
    folder = ROOT / "benchmarks/results"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in _LIVE}


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
    readme.write_text(render(readme.read_text(encoding="utf-8"), *reports(), live_results()), encoding="utf-8")


if __name__ == "__main__":
    main()

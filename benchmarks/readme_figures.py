"""Writes README's figures from the JSON they were measured into. benchmarks/results/*.json in, README.md out.

Run `python -m benchmarks.readme_figures` after a new result was committed; a test fails while README says otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.readme_sets import RESULTS as _SETS
from benchmarks.readme_sets import set_figures

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures of benchmarks/results/demo.json -->", "<!-- end of figures -->"
LIVE_START, LIVE_END = "<!-- figures of the live loop -->", "<!-- end of live figures -->"
TRAIN_START, TRAIN_END = "<!-- figures of training -->", "<!-- end of training figures -->"
SETS_START, SETS_END = "<!-- figures of facesets -->", "<!-- end of faceset figures -->"
_LIVE = ("bench", "live_cpu", "overload", "soak", "occlusion")
"""Results that the live figures come from."""
_TRAINING = ("quality", "training_speed", "many_performers", "ablation")
"""Results that the figures of training come from."""
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


def training_figures(results: dict[str, dict[str, Any]]) -> str:
    """README's figures of training, from the results named in _TRAINING."""
    quality, speed, many, parts = (results[name] for name in _TRAINING)
    machine, nothing = quality["machine"], quality["no_swap"]
    digits = {"identity_transfer": 2, "face_psnr_db": 1, "face_ssim": 3, "landmark_error_iod": 3, "flicker": 1}
    still = " | ".join(f"{nothing[metric]:.{count}f}" for metric, count in digits.items())
    lines = [
        f"Recipes side by side: {quality['minutes']:g} minutes each on the same rendered actors, {quality['threads']} "
        f"thread, {quality['seeds']} seeds, then the swap against the exact answer (`python -m benchmarks.quality`; "
        f"{machine['cores']} cores of a shared {machine['cpu']}, no GPU). Peers' recipes have their layers, losses, "
        "augmentation, optimizer and precision, in our code; `@` is as many samples instead of as many minutes.",
        "",
        "| recipe | identity transfer | PSNR, dB | SSIM | landmark error | flicker | steps | faces/s |",
        "|---|---|---|---|---|---|---|---|",
        f"| no swap | {still} | | |",
    ]
    for name, row in quality["rows"].items():
        scores = " | ".join(_form(row["raw"][metric], count) for metric, count in digits.items())
        lines.append(f"| `{name}` | {scores} | {row['steps']['mean']:.0f} | {row['samples_per_s']['mean']:.1f} |")
    challenger = quality["challenger"]
    others = {name: found for name, found in quality["reaches"].items() if not name.startswith(challenger)}
    reached = [_reached(challenger, name, found) for name, found in others.items()]
    return "\n".join([*lines, "", *reached, "", _speed(speed), "", _strangers(many), "", _parts(parts)])


def _form(value: dict[str, float] | None, digits: int) -> str:
    return "-" if value is None else f"{value['mean']:.{digits}f}"


def _reached(challenger: str, name: str, found: dict[str, Any]) -> str:
    parts = []
    titles = {"identity_transfer": "identity transfer", "face_ssim": "SSIM", "face_psnr_db": "PSNR"}
    for metric, title in titles.items():
        when = found[metric]
        share = "never" if when is None else f"{100 * when['share_of_its_time']:.0f} %"
        parts.append(f"{title} {'at most ' if when is not None and when['at_most'] else ''}{share}")
    return f"`{challenger}` has the final score of `{name}` after this share of its time: {', '.join(parts)}."


def _speed(result: dict[str, Any]) -> str:
    told = result["ratios"]
    ours, light = (result["trainers"][name]["samples_per_s"]["median"] for name in ("ours", "light-128"))
    return (
        f"Speed on the layers of faceswap's `lightweight`, batch 16 a side, {result['threads']} threads: {ours:.0f} "
        f"faces a second, {told['by_clock']:.1f} times as many as that recipe in our code as faceswap trains it, and "
        f"{told['recorded']:.1f} times what faceswap itself reached on another machine (wanted: {result['goal']:g} "
        f"times). With `light-128` it is {light:.0f} faces a second."
    )


def _strangers(result: dict[str, Any]) -> str:
    nothing = result["no_swap"]
    told = [f"{_pair(row['unseen'])} (trained on {name})" for name, row in result["rows"].items()]
    return (
        f"Onto {result['unseen']} performers whom no model has seen, after {result['minutes']:g} minutes: identity "
        f"transfer / SSIM {', '.join(told)}; no swap {_pair(nothing)} (`python -m benchmarks.many_performers`)."
    )


def _parts(result: dict[str, Any]) -> str:
    digits = {"identity_transfer": 3, "face_psnr_db": 2, "face_ssim": 3}
    lines = [
        f"What each part of `{result['recipe']}` is worth: one taken away, or something else put in, at a time, "
        f"{result['minutes']:g} minutes, {result['seeds']} seeds; variant less recipe (`benchmarks.ablation`).",
        "",
        "| variant | what it is | identity transfer | PSNR, dB | SSIM | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        if "verdict" in row:
            changed = " | ".join(f"{row['mean_difference'][metric]:+.{count}f}" for metric, count in digits.items())
            lines.append(f"| {name} | {row['what']} | {changed} | {row['verdict']} |")
    return "\n".join(lines)


def _pair(scores: dict[str, Any]) -> str:
    return f"{scores['identity_transfer']['mean']:.2f} / {scores['face_ssim']['mean']:.3f}"


def render(
    readme: str,
    report: dict[str, Any],
    scratch: dict[str, Any],
    live: dict[str, dict[str, Any]],
    training: dict[str, dict[str, Any]],
    sets: dict[str, dict[str, Any]],
) -> str:
    """README's text with all figures between their marks. ValueError: a mark is missing."""
    for start, end, text in (
        (START, END, figures(report, scratch)),
        (LIVE_START, LIVE_END, live_figures(live)),
        (SETS_START, SETS_END, set_figures(sets)),
        (TRAIN_START, TRAIN_END, training_figures(training)),
    ):
        head, rest = readme.split(start)
        _, tail = rest.split(end)
        readme = f"{head}{start}\n{text}\n{end}{tail}"
    return readme


def live_results() -> dict[str, dict[str, Any]]:
    """The committed results of the live loop, by name."""
    return _results(_LIVE)


def training_results() -> dict[str, dict[str, Any]]:
    """The committed results of training, by name."""
    return _results(_TRAINING)


def set_results() -> dict[str, dict[str, Any]]:
    """The committed results of extraction and coverage, by name."""
    return _results(_SETS)


def _results(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    folder = ROOT / "benchmarks/results"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}


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
    text = readme.read_text(encoding="utf-8")
    text = render(text, *reports(), live_results(), training_results(), set_results())
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

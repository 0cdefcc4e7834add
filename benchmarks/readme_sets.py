"""README's figures of extraction and coverage. Their JSON in, lines of Markdown out."""

from __future__ import annotations

from typing import Any

RESULTS = "extraction", "coverage_truth"
"""Results that these figures come from."""
_STAGES = {
    "decode": "decode",
    "detect": "find",
    "mesh": "mesh",
    "align": "cut out",
    "measure": "measure",
    "write": "write",
    "join": "join",
    "rest": "rest",
}


def set_figures(results: dict[str, dict[str, Any]]) -> str:
    """README's figures of facesets, from the results named in RESULTS."""
    extraction, truth = (results[name] for name in RESULTS)
    return "\n".join([*_extraction(extraction), "", _memory(extraction), "", _truth(truth)])


def _extraction(result: dict[str, Any]) -> list[str]:
    machine = result["machine"]
    lines = [
        f"Extraction on {machine['cores']} cores of a shared {machine['cpu']} (`python -m benchmarks.extraction`), "
        "processor time of a frame in ms, and frames a second:",
        "",
        f"| film, detector | {' | '.join(_STAGES.values())} | all | 1 core | 2 cores | found | mesh error |",
        "|---" * (len(_STAGES) + 6) + "|",
    ]
    for film, detectors in result["films"].items():
        for name, row in detectors.items():
            stages = " | ".join(f"{row['cpu_ms'][stage]:.1f}" for stage in _STAGES)
            one, two = row["fps"]["one core"], row["fps"]["two cores"]
            lines.append(
                f"| {film}, {'default' if name == 'mediapipe' else name} | {stages} | {row['cpu_ms_per_frame']:.1f} | "
                f"{one:.0f} fps | {'-' if two is None else f'{two:.0f} fps'} | {100 * row['found']:.0f} % | "
                f"{100 * row['mesh_error']:.1f} % |"
            )
    return lines


def _memory(result: dict[str, Any]) -> str:
    held = result["memory"]
    return (
        f"{held['minutes']:g} minutes of film, {held['faces']} faces, take {held['seconds']:.0f} s and "
        f"{held['first_fifth_mib']:.0f} MiB in the first fifth of the time, {held['last_fifth_mib']:.0f} MiB in the "
        f"last, all {held['jobs']} processes together."
    )


def _truth(result: dict[str, Any]) -> str:
    rows, wanted = result["rows"], result["wanted"]
    casts = sorted({row["cast"] for row in rows})
    by_cast = [result["spearman_by_cast"][str(cast)] for cast in casts]
    budget = f"{result['minutes']:g} minutes" if result["minutes"] else f"{result['steps']} steps"
    return (
        f"Is the report true? {len(rows) // len(casts)} sets of each of {len(casts)} rendered people, one defect each, "
        f"were trained for {budget} (`{result['recipe']}`) and scored against the exact swap. Rank correlation of "
        f"predicted and true score: **{result['spearman']:.2f}** (wanted: {wanted['spearman']}; of each person "
        f"{' and '.join(f'{value:.2f}' for value in by_cast)}). Chance that a frame of the worst quarter by SSIM was "
        f"given the higher risk: **{result['auc']:.2f}** (wanted: {wanted['auc']}), by the score, whose identity "
        f"transfer is noisy in a single frame, {result['auc_by_score']:.2f}, by SSIM among the frames of one set "
        f"{result['auc_within']:.2f}. Planted cause named first: {result['first_finding_right']} sets "
        "(`python -m benchmarks.coverage_truth`). The weights were corrected by the first person's sets, and some "
        "rules were settled with both in sight: nobody untouched has been asked yet."
    )

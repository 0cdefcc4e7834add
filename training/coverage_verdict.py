"""Says what the figures of a coverage mean. Coverage in; GO, WARN or STOP with plain sentences out.

Note [Order of findings]
    Every cause costs a share of the swap: the mean of its costs over the performer's frames, see Note [Risk]. Causes
    come in the order of what they cost, and so do the findings inside one cause; a cause that costs less than NOTED is
    not mentioned. Jump cuts cost a model nothing, but whoever looks at a live swap of such a film sees the face lost at
    every cut, so they count as CUTS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.coverage import FEW_LOOKS, SIDES, Coverage
from training.coverage_findings import CUTS, NOTED, Finding, facts_of, findings_of, percent

Level = Literal["GO", "WARN", "STOP"]
STOPPED = 0.25
"""Share of the predicted score from which on a cause that loses it makes training a waste of hours."""
_MANY_SHOTS = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the report says."""

    level: Level
    summary: str
    findings: tuple[Finding, ...]
    """The worst first."""
    losses: dict[str, float]
    """Of the score, by cause, whether it is worth a finding or not; the largest first."""
    notes: tuple[str, ...]
    """What could not be judged, and why."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(found: Coverage) -> Verdict:
    """The verdict over a coverage, see Note [Order of findings]."""
    losses = {cause: found.loss(cause) for cause in found.costs}
    for side in SIDES:
        shots = facts_of(found, side).shots
        if shots is not None:
            losses[f"{side} cuts"] = CUTS if shots.count >= _MANY_SHOTS and shots.short > 0.5 else 0.0
    losses = dict(sorted(losses.items(), key=lambda each: -each[1]))
    findings = tuple(
        finding for cause, loss in losses.items() if loss >= NOTED for finding in findings_of(found, cause)
    )
    worst = max(losses.values())
    level: Level = "STOP" if worst >= STOPPED else "WARN" if findings else "GO"
    return Verdict(level, _summary(level, found, findings), findings, _rounded(losses), tuple(_notes(found)))


def _rounded(losses: dict[str, float]) -> dict[str, float]:
    return {cause: round(loss, 4) for cause, loss in losses.items()}


def _summary(level: Level, found: Coverage, findings: tuple[Finding, ...]) -> str:
    about = "" if found.score < 0.01 else "about "
    share = f"{about}{percent(found.score)} of what a preset can give"
    if level == "GO":
        return f"The identity covers the performer: expect {share}; train."
    if level == "WARN":
        return f"Training works, and expect {share}; what is named below costs the rest."
    return f"Do not train yet: expect {share}, mostly because {findings[0].fact[0].lower()}{findings[0].fact[1:]}."


def _notes(found: Coverage) -> Iterator[str]:
    for side in SIDES:
        facts, quality = facts_of(found, side), found.quality[side]
        if quality.effective < FEW_LOOKS:
            yield (
                f"The {side}'s set is too small to judge more than its size: {quality.effective} different looks, and "
                f"pose, expression and light can be judged from about {FEW_LOOKS} on."
            )
        if facts.skin is None:
            yield (
                f"The {side}'s eyes are too small or too rarely open to tell skin from light: brightness and colour of "
                "the light are compared roughly."
            )
        if facts.shots is None:
            yield f"The {side}'s frames lie too far apart to tell how often the film cuts."
        if facts.total > quality.looked_at:
            yield f"Of the {side}'s {facts.total} faces {quality.looked_at} were looked at, spread evenly."

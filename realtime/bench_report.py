"""Works on the reports of the bench. Rounds in, their middle out; one report in, lines for people out; two, ratios."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from realtime.errors import UsageError


def middle(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every figure over the rounds; counts are added up; beside every `fps` its range."""
    result: dict[str, Any] = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(rounds)):
        values = [each[name] for each in rounds if name in each]
        if isinstance(values[0], Mapping):
            result[name] = (
                {room: sum(each.get(room, 0) for each in values) for room in dict.fromkeys(itertools.chain(*values))}
                if name == "drops"
                else middle(values)
            )
        elif name == "frames":
            result[name] = sum(values)
        else:
            result[name] = round(median(values), 4)
            if name == "fps":
                result["fps_range"] = [min(values), max(values)]
    return result


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of two reports."""

    name: str
    before: float
    after: float
    ratio: float
    """after / before; NaN where before is 0."""
    better: bool
    """Whether `after` is at least as good."""


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """Every figure that both reports have, with its ratio. Raises UsageError for what is no bench report."""
    return [
        Row(name, old, new, new / old if old else math.nan, better=new >= old if name.endswith("fps") else new <= old)
        for (name, old), new in _shared(_figures(before), _figures(after))
    ]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What else differs between two reports, so that their ratios say less, a line each."""
    lines = []
    for part in ("machine", "model", "engine", "source", "rounds", "warmup", "seconds"):
        old, new = before.get(part), after.get(part)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [
                f"{part} {name}: {old.get(name)} -> {new.get(name)}"
                for name in dict.fromkeys((*old, *new))
                if old.get(name) != new.get(name)
            ]
        elif old != new:
            lines.append(f"{part}: {old} -> {new}")
    return lines


def table(report: Mapping[str, Any]) -> list[str]:
    """The report for people, a line each."""
    model, clip, where = report["model"], report["source"], report["machine"]
    lines = [
        f"{model['name']}, {model['resolution']} px, on {report['engine']['provider']}, "
        f"{report['engine']['threads']} threads; {clip['name']} {clip['width']}x{clip['height']}",
        f"{where['cores']} cores of {where['cpu']}, {where['os']}",
        "",
        f"{'':18}{'fps':>8}{'CPU ms':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'dropped':>9}",
    ]
    for name, figures in _runs(report):
        latency = figures["latency_ms"]
        lines.append(
            f"{name:18}{figures['fps']:8.1f}{figures['cpu_ms_per_frame']:9.2f}"
            + "".join(f"{latency[each]:9.2f}" for each in ("p50", "p95", "p99"))
            + f"{sum(figures.get('drops', {}).values()):9}"
        )
    lines += ["", f"{'stage':18}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"]
    lines += [
        f"{stage:18}{times['p50']:9.2f}{times['p95']:9.2f}{times['p99']:9.2f}"
        for stage, times in report["stages"].items()
    ]
    return lines


def _runs(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        for mode, figures in report["modes"].items():
            if "fps" in figures:
                yield mode, figures
            else:
                yield from ((f"{mode} {name}", each) for name, each in figures.items())
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError("this is no report of liveswap bench; give files that its --json wrote") from error


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for run, values in _runs(report):
        figures[f"{run} fps"] = values["fps"]
        figures[f"{run} CPU ms"] = values["cpu_ms_per_frame"]
        figures |= {f"{run} latency {each} ms": values["latency_ms"][each] for each in ("p50", "p95", "p99")}
        figures |= {f"{run} {stage} p50 ms": times["p50"] for stage, times in values["stages"].items()}
    return figures


def _shared(old: dict[str, float], new: dict[str, float]) -> Iterator[tuple[tuple[str, float], float]]:
    return (((name, value), new[name]) for name, value in old.items() if name in new)

"""Works on the reports of the bench. Rounds in, their middle out; one report in, lines for people out; two, ratios."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

from realtime.errors import UsageError
from realtime.files import explain

_REMEDY = "give a file that liveswap bench --json wrote"


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


class Row(TypedDict):
    """One figure of two reports."""

    name: str
    before: float
    after: float
    ratio: float | None
    """after / before; None where before is 0."""
    better: bool
    """Whether `after` is at least as good."""


def read_result(path: Path) -> dict[str, Any]:
    """The report that `liveswap bench --json` wrote. Raises UsageError for any other file."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the report cannot be read: {explain(error, path)}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(report, dict):
        raise UsageError(f"{path} is no report of liveswap bench; {_REMEDY}")
    _figures(report)
    return report


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """Every figure that both reports have, with its ratio. Raises UsageError for what is no bench report."""
    old, new = _figures(before), _figures(after)
    return [
        Row(
            name=name,
            before=value,
            after=new[name],
            ratio=round(new[name] / value, 4) if value else None,
            better=new[name] >= value if name.endswith("fps") else new[name] <= value,
        )
        for name, value in old.items()
        if name in new
    ]


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """The rows for people; what got worse is marked."""
    lines = [f"{'':34}{'before':>10}{'after':>10}{'ratio':>8}"]
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        worse = "" if row["better"] else "  worse"
        lines.append(f"{row['name']:34}{row['before']:10.2f}{row['after']:10.2f}{ratio:>8}{worse}")
    return lines


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


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report for people, a line each."""
    model, clip, where = report["model"], report["source"], report["machine"]
    text = [
        f"{model['name']}, {model['resolution']} px, on {report['engine']['provider']}, "
        f"{report['engine']['threads']} threads; {clip['name']} {clip['width']}x{clip['height']}",
        f"{where['cores']} cores of {where['cpu']}, {where['os']}",
        "",
        f"{'':18}{'fps':>8}{'CPU ms':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'dropped':>9}",
    ]
    for name, figures in _runs(report):
        latency = figures["latency_ms"]
        text.append(
            f"{name:18}{figures['fps']:8.1f}{figures['cpu_ms_per_frame']:9.2f}"
            + "".join(f"{latency[each]:9.2f}" for each in ("p50", "p95", "p99"))
            + f"{sum(figures.get('drops', {}).values()):9}"
        )
    text += ["", f"{'stage':18}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"]
    text += [
        f"{stage:18}{times['p50']:9.2f}{times['p95']:9.2f}{times['p99']:9.2f}"
        for stage, times in report["stages"].items()
    ]
    return text


def _runs(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for mode, figures in report["modes"].items():
        if "fps" in figures:
            yield mode, figures
        else:
            yield from ((f"{mode} {name}", each) for name, each in figures.items())


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    try:
        for run, values in _runs(report):
            figures[f"{run} fps"] = float(values["fps"])
            figures[f"{run} CPU ms"] = float(values["cpu_ms_per_frame"])
            latency, stages = values["latency_ms"], values["stages"]
            figures |= {f"{run} latency {each} ms": float(latency[each]) for each in ("p50", "p95", "p99")}
            figures |= {f"{run} {stage} p50 ms": float(times["p50"]) for stage, times in stages.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"this is no report of liveswap bench; {_REMEDY}") from error
    return figures

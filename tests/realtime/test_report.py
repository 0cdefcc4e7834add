from __future__ import annotations

import getpass
import json
import platform

import numpy as np
import pytest

from realtime.machine import describe
from realtime.report import Durations, RunReport, StageTimes

BUCKET = 0.01
"""Relative width of a bucket: percentiles are exact to it."""


def test_percentiles_agree_with_numpy() -> None:
    samples = np.random.default_rng(0).lognormal(2, 1, 5000)
    durations = Durations()
    for sample in samples:
        durations.add(float(sample))
    assert len(durations) == 5000
    for percent in (1, 50, 95, 99):
        assert durations.percentile(percent) == pytest.approx(float(np.percentile(samples, percent)), rel=2 * BUCKET)
    assert durations.summary()["max"] == pytest.approx(samples.max(), abs=1e-3)


def test_no_percentile_is_longer_than_the_longest() -> None:
    durations = Durations()
    durations.add(7.0)
    assert durations.percentile(99) <= 7.0


def test_nothing_measured_is_zero() -> None:
    assert Durations().summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


def test_extreme_durations_are_counted() -> None:
    durations = Durations()
    for extreme in (0.0, -1.0, 1e12):
        durations.add(extreme)
    assert len(durations) == 3


def test_two_counts_can_be_added() -> None:
    one, other = Durations(), Durations()
    one.add(1.0)
    other.add(100.0)
    one.add_all(other)
    assert len(one) == 2
    assert one.percentile(99) == pytest.approx(100, rel=BUCKET)


def test_stages_keep_the_order_in_which_they_came() -> None:
    times = StageTimes()
    for stage in ("detect", "align", "infer", "detect"):
        times.add(stage, 1.0)
    assert list(times.summary()) == ["detect", "align", "infer"]


def test_a_report_is_plain_json() -> None:
    report = RunReport(
        frames_in=2,
        frames_out=1,
        dropped={"swap": 1},
        queue_max=1,
        seconds=0.1,
        fps=10.0,
        latency_ms={"p50": 1.0},
        stages={},
        states={"live": 1},
        raw_face_frames=0,
        failed_frames=0,
        badge=True,
        stopped=False,
        source={},
        sinks={"null": 1},
        provider="CPUExecutionProvider",
        machine=describe(),
    )
    assert json.loads(report.to_json()) == report.to_dict()


def test_the_machine_is_described_without_naming_it_or_its_user() -> None:
    described = describe()
    assert set(described) == {"cpu", "cores", "os", "python", "versions"}
    assert described["cores"] >= 1
    assert all(described["versions"][library] for library in ("numpy", "opencv", "onnxruntime", "av"))
    words = json.dumps(described).replace(",", " ").replace('"', " ").split()
    assert platform.node() not in words
    assert getpass.getuser() not in words
    assert not [word for word in words if word.startswith("/")]

"""Doctor: this machine, and machines that lack things, in; findings with a remedy out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime import devices, doctor, round_trip
from realtime.devices import CameraDevice, MicrophoneDevice
from realtime.doctor import Check, Finding, Report, Trial, examine
from realtime.errors import ModelError, SinkError
from realtime.standin import slate
from tests.xvfb import private_display

ROOT = Path(__file__).resolve().parents[2]


def named(report: Report) -> dict[str, Check]:
    return {each.name: each for each in report.checks}


def only(name: str) -> Finding:
    """What the doctor's own test of this name finds."""
    test = next(each for each in doctor.TRIALS if each.name == name)
    return examine(tests=[test]).checks[0].finding


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_display")
def test_this_machine_is_examined_from_end_to_end() -> None:
    report = examine()
    found = named(report)
    assert report.ok
    assert len(found) == len(doctor.TRIALS)
    for essential in ("system", "engine", "encoders", "sink null", "sink video"):
        assert found[essential].essential
        assert found[essential].finding.status == "ok", found[essential]
    engine = found["engine"].finding
    assert engine.figures["provider"] == "CPUExecutionProvider"
    assert engine.figures["ms"] > 0
    assert f"{engine.figures['ms']:.1f} ms" in engine.sentence
    for trip in ("sink video", "sink udp://"):
        assert 0 < found[trip].finding.figures["levels"] < round_trip.MOST_DIFFERENCE
    assert found["sink preview"].finding.status == "missing"
    assert "DISPLAY" in found["sink preview"].finding.sentence + found["screen"].finding.remedy
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    # Nothing that travels names a folder of this machine.
    assert str(ROOT) not in json.dumps(report.to_dict())
    assert all("\n" not in line for line in report.lines())


def test_with_a_display_the_window_opens_and_the_screen_is_seen() -> None:
    code = (
        "import json; from realtime import doctor\n"
        "tests = [each for each in doctor.TRIALS if each.name in ('screen', 'sink preview')]\n"
        "print(json.dumps(doctor.examine(tests=tests).to_dict()))\n"
    )
    with private_display(800, 600, needed=("Xvfb",)) as display:
        environment = {**os.environ, "DISPLAY": display.name}
        environment.pop("WAYLAND_DISPLAY", None)
        answer = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
    assert answer.returncode == 0, answer.stderr
    screen, preview = json.loads(answer.stdout)["checks"]
    assert (screen["status"], preview["status"]) == ("ok", "ok"), answer.stdout
    assert "800x600" in screen["sentence"]
    assert preview["sentence"] == "a window opened and showed pictures"


def test_a_missing_model_fails_the_whole_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "DEMO_MODEL", tmp_path / "gone.dfm")
    report = examine(tests=[each for each in doctor.TRIALS if each.name == "engine"])
    assert report.checks[0].finding.status == "failed"
    assert not report.ok


def test_a_missing_encoder_fails_the_whole_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENCODERS", ("libx264", "no-such-encoder"))
    report = examine(tests=[each for each in doctor.TRIALS if each.name == "encoders"])
    assert "has no no-such-encoder" in report.checks[0].finding.sentence
    assert "pip install" in report.checks[0].finding.remedy
    assert not report.ok


def test_whatever_a_test_raises_becomes_a_finding() -> None:
    def divide() -> Finding:
        return Finding("ok", str(1 // 0))

    def miss() -> Finding:
        raise SinkError("there is none; buy one")

    report = examine(tests=[Trial("a", divide), Trial("b", miss, absent="missing"), Trial("c", miss)])
    assert [each.finding.status for each in report.checks] == ["failed", "missing", "failed"]
    assert "ZeroDivisionError" in report.checks[0].finding.sentence
    assert (report.checks[1].finding.sentence, report.checks[1].finding.remedy) == ("there is none", "buy one")
    assert report.ok


def test_only_what_is_essential_decides() -> None:
    def broken() -> Finding:
        raise ModelError("it broke; export it again")

    def weak() -> Finding:
        return Finding("warn", "weak")

    assert examine(tests=[Trial("a", broken), Trial("b", weak, essential=True)]).ok
    assert not examine(tests=[Trial("a", broken, essential=True)]).ok


def test_remedies_stand_below_what_needs_them() -> None:
    report = Report(
        (Check("engine", True, Finding("ok", "it runs")), Check("camera", False, Finding("missing", "none", "buy")))
    )
    assert report.lines() == ["ok       engine  it runs", "missing  camera  none", "                 -> buy"]


def test_cameras_and_microphones_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = [
        CameraDevice(0, "Webcam", "/dev/video0", "w", trouble="you may not open it; run: sudo usermod"),
        CameraDevice(10, "liveswap", "/dev/video10", "l", virtual=True),
    ]
    microphones = [MicrophoneDevice("Snowball", "plughw:1,0", "alsa")]
    monkeypatch.setattr(devices, "list_cameras", lambda: cameras)
    monkeypatch.setattr(devices, "list_microphones", lambda: microphones)
    found = only("cameras")
    assert (found.status, found.sentence) == ("warn", "0 is Webcam, 10 is liveswap (virtual)")
    assert "sudo usermod" in found.remedy
    assert found.figures["cameras"][1]["virtual"] is True
    assert only("microphones").sentence == "Snowball"
    assert only("sink camera").figures["devices"] == ["/dev/video10"]


@pytest.mark.skipif(os.name == "nt", reason="makes a program of a shell script")
@pytest.mark.parametrize(
    ("script", "status", "said"),
    [("echo 'Some GPU, 24576 MiB, 580.1'", "ok", "Some GPU, 24576 MiB"), ("exit 9", "warn", "does not answer")],
)
def test_the_gpu_is_what_its_driver_says(
    script: str, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = only("GPU")
    assert found.status == status
    assert said in found.sentence
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert only("GPU").status == "missing"


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only("disk").status in ("ok", "warn")
    monkeypatch.setattr(doctor, "_SCARCE_FREE", 2**60)
    assert only("disk").status == "warn"
    monkeypatch.setattr(doctor, "_LEAST_FREE", 2**60)
    assert (only("disk").status, only("disk").remedy[:9]) == ("failed", "make room")


def test_a_round_trip_that_loses_or_changes_pictures_is_noticed() -> None:
    sent = [round_trip.picture(number) for number in range(round_trip.COUNT)]
    assert round_trip._compare(sent, "it") == 0
    with pytest.raises(SinkError, match="14 of 15 pictures came back from it"):
        round_trip._compare(sent[1:], "it")
    with pytest.raises(SinkError, match="it changed the pictures by"):
        round_trip._compare([np.ascontiguousarray(each[:, :, ::-1]) for each in sent], "it")
    with pytest.raises(SinkError, match="it changed the pictures by"):
        round_trip._compare([*sent[5:], *sent[:5]], "it")  # another order


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a virtual camera that takes everything was sent."""
    camera = pytest.importorskip("pyvirtualcam.camera")
    pictures: list[Any] = []

    class Recorder:
        def __init__(self, **wish: Any) -> None:
            assert (wish["width"], wish["height"]) == (round_trip.WIDTH, round_trip.HEIGHT)

        def close(self) -> None:
            pass

        def send(self, frame: Any) -> None:
            pictures.append(frame.copy())

        def device(self) -> str:
            return "recorder"

        def native_fourcc(self) -> None:
            return None

    monkeypatch.setattr(camera, "BACKENDS", {})
    camera.register_backend("recorder", Recorder)
    return pictures


def test_a_virtual_camera_is_tried_and_shows_nobody(seen: list[Any]) -> None:
    found = only("sink camera")
    assert found.status == "ok", found
    assert found.sentence.startswith("virtual camera recorder took pictures")
    assert found.figures["backends"] == ["recorder"]
    assert len(seen) >= round_trip.COUNT
    card = slate(round_trip.HEIGHT, round_trip.WIDTH)
    for picture in seen:
        assert np.array_equal(np.reshape(picture, card.shape), card)

"""Blocks of sound on a time line: where they end up, what stands between them, and that nothing clicks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from realtime.sound import SoundBlock
from realtime.sound_line import FADE, JUMP_S, RATE, SoundF32, SoundLine

TONE_HZ = 500
STEP = 0.05
"""The largest step between two samples of the tone at 0.5 is 0.033; a click is more."""
INTERPOLATED = 2e-3
"""What interpolation adds to a tone of 0.5: -54 dB at worst, where a rate is converted and the band ends."""


def tone(start_s: float, count: int, rate: int = RATE, channels: int = 1) -> SoundBlock:
    """A tone that is the same function of time in every block."""
    moments = start_s + np.arange(count) / rate
    wave = (0.5 * np.sin(2 * np.pi * TONE_HZ * moments)).astype(np.float32)
    return SoundBlock(np.repeat(wave[:, None], channels, axis=1), rate, start_s)


def laid(blocks: list[tuple[SoundBlock, float]], until_s: float = 1e6) -> SoundF32:
    line = SoundLine()
    for block, at_s in blocks:
        line.add(block, at_s)
    line.finish()
    return np.concatenate([np.zeros((0, 2), np.float32), *line.take(until_s)])


def in_a_row(seconds: float, rate: int, size: int, channels: int = 1) -> list[tuple[SoundBlock, float]]:
    blocks = [tone(first / rate, size, rate, channels) for first in range(0, round(seconds * rate), size)]
    return [(block, block.pts_s) for block in blocks]


@pytest.mark.parametrize(("rate", "size"), [(48_000, 480), (44_100, 1024), (16_000, 160), (96_000, 333), (8_000, 1)])
def test_blocks_become_one_wave_at_the_rate_of_the_line(rate: int, size: int) -> None:
    wave = laid(in_a_row(0.5, rate, size, channels=2))
    expected = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(len(wave)) / RATE)
    inner = slice(FADE, -2 * FADE)
    assert len(wave) / RATE == pytest.approx(0.5, abs=size / rate + 1e-3)
    assert np.abs(wave[inner] - expected[inner, None]).max() < INTERPOLATED


def test_a_block_between_two_samples_of_the_line_is_not_rounded_to_one() -> None:
    shift_s = 0.37 / RATE
    wave = laid([(block, at_s + shift_s) for block, at_s in in_a_row(0.2, RATE, 480)])
    expected = 0.5 * np.sin(2 * np.pi * TONE_HZ * (np.arange(len(wave)) / RATE - shift_s))
    assert np.abs(wave[FADE + 1 : -2 * FADE, 0] - expected[FADE + 1 : -2 * FADE]).max() < INTERPOLATED


def test_what_comes_before_the_line_is_cut() -> None:
    wave = laid([(tone(at_s, 4800), at_s) for at_s in (-0.25, -0.15, -0.05, 0.05)])
    assert len(wave) / RATE == pytest.approx(0.15, abs=1e-3)
    assert np.abs(
        wave[FADE:-FADE, 0] - 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(len(wave)) / RATE)[FADE:-FADE]
    ).max() < (INTERPOLATED)


def test_a_gap_is_silent_and_fades_on_both_sides() -> None:
    before, after = in_a_row(0.2, RATE, 480), [(tone(at_s, 480), at_s) for at_s in (0.4, 0.41, 0.42)]
    wave = laid([*before, *after])
    assert np.abs(np.diff(wave[:, 0])).max() < STEP
    assert np.abs(wave[round(0.2 * RATE) + 1 : round(0.4 * RATE)]).max() == 0
    assert np.abs(wave[round(0.41 * RATE) : round(0.42 * RATE)]).max() == pytest.approx(0.5, abs=0.01)


def test_blocks_that_repeat_a_stretch_are_cut_without_a_click() -> None:
    blocks = [*in_a_row(0.5, RATE, 480), *[(tone(at_s, 480), at_s) for at_s in np.arange(0.3, 0.8, 0.01).tolist()]]
    wave = laid(blocks)
    assert len(wave) / RATE == pytest.approx(0.8, abs=1e-3)
    assert np.abs(np.diff(wave[:, 0])).max() < STEP


def test_a_jitter_of_a_millisecond_is_not_heard() -> None:
    jitter = np.random.default_rng(0).normal(0, 1e-3, 500)
    wave = laid(
        [(block, max(at_s + late, 0)) for (block, at_s), late in zip(in_a_row(5, RATE, 480), jitter, strict=True)]
    )
    assert np.abs(np.diff(wave[:, 0])).max() < STEP
    assert len(wave) / RATE == pytest.approx(5, abs=2e-3)


def test_a_small_difference_is_pulled_in_and_reported_meanwhile() -> None:
    line = SoundLine()
    for first in range(0, 20 * RATE, 480):
        at_s = first / RATE
        line.add(tone(at_s, 480), at_s + (0.02 if at_s > 1 else 0))
        if at_s == 3:
            assert -0.02 < line.lag_s < -0.005
    assert abs(line.lag_s) < 1e-3
    assert 0.01 < line.worst_lag_s < 0.02


def test_a_difference_that_no_clock_explains_is_a_jump() -> None:
    late_s = JUMP_S + 0.01
    wave = laid([*in_a_row(0.5, RATE, 480), (tone(0.5, 4800), 0.5 + late_s)])
    assert len(wave) / RATE == pytest.approx(0.6 + late_s, abs=1e-3)
    assert np.abs(wave[round(0.501 * RATE) : round((0.499 + late_s) * RATE)]).max() == 0


def test_sound_that_does_not_come_is_filled_with_silence_and_what_is_too_late_is_cut() -> None:
    line = SoundLine()
    line.add(tone(0, 4800), 0)
    line.fill(0.5)
    assert line.end_s == 0.5
    line.add(tone(0.3, 4800), 0.3)
    assert line.end_s == 0.5
    line.add(tone(0.4, 9600), 0.4)
    line.finish()
    assert line.end_s == pytest.approx(0.6, abs=1e-3)
    assert np.abs(np.diff(np.concatenate(line.take(1))[:, 0])).max() < STEP


def test_what_is_taken_ends_where_it_was_asked_to() -> None:
    line = SoundLine()
    line.add(tone(0, 48_000), 0)
    assert sum(map(len, line.take(0.25))) == 12_000
    assert line.take(0.25) == []
    assert sum(map(len, line.take(0.5))) == 12_000


def test_an_hour_without_sound_takes_no_memory() -> None:
    line = SoundLine()
    line.fill(3600)
    (piece,) = line.take(3600)
    assert len(piece) == 3600 * RATE
    assert piece.base is not None
    assert piece.strides[0] == 0


def test_broken_samples_and_moments_do_no_harm() -> None:
    bad = np.full((480, 1), np.nan, np.float32)
    bad[::3], bad[1::3] = np.inf, -7
    wave = laid(
        [
            (SoundBlock(bad, RATE, 0.0), 0.0),
            (tone(0, 480), math.nan),
            (SoundBlock(np.zeros((0, 2), np.float32), RATE, 0.0), 0.01),
        ]
    )
    assert len(wave) == 480
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() < 2


def test_a_microphone_that_changes_its_rate_goes_on_in_place() -> None:
    wave = laid([*in_a_row(0.2, RATE, 480), *[(tone(at_s, 441, 44_100), at_s) for at_s in (0.2, 0.21, 0.22, 0.23)]])
    assert len(wave) / RATE == pytest.approx(0.24, abs=1e-3)
    assert np.abs(np.diff(wave[:, 0])).max() < STEP

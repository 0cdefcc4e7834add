"""Listening: real input devices of FFmpeg (a paced tone, ALSA's null device), and a simulated one that drifts."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.devices import list_microphones
from realtime.errors import SourceError
from realtime.microphone import JUMP_S, SETTLE_S, ArrivalTimes, Microphone
from realtime.sound import SoundBlock

TONE = "sine=frequency=440:sample_rate=48000,arealtime"
PACED_S = 0.03
"""FFmpeg's arealtime filter sleeps between blocks of 21 ms; on a busy machine it oversleeps a little."""
STEADY = 1.1e-3
"""By how much of its length a block's time may be off the count of samples: the most that is ever pulled in, 0.1 %."""
FOLLOWED_S = 0.003
"""How close times stay to the truth: drift of 0.02 % over the 4 s in which it is pulled in and the 4 s looked back
make 1.6 ms; the quickest of a hundred blocks is up to 1 ms late."""

needs_lavfi = pytest.mark.skipif("lavfi" not in av.formats_available, reason="this PyAV has no lavfi")
needs_alsa = pytest.mark.skipif(
    sys.platform != "linux" or "alsa" not in av.formats_available, reason="this PyAV has no ALSA"
)


@needs_lavfi
def test_a_tone_is_heard_at_the_moments_when_it_sounds() -> None:
    origin_s = time.monotonic() - 100
    with Microphone(TONE, format="lavfi") as microphone:
        opened_s = time.monotonic() - origin_s
        blocks = list(itertools.islice(microphone.blocks(origin_s), 40))
        read_s = time.monotonic() - origin_s
    wave = np.concatenate([block.samples for block in blocks])[:, 0]
    assert all(block.rate == 48_000 for block in blocks)
    assert opened_s - 0.1 - PACED_S < blocks[0].pts_s < opened_s + PACED_S
    assert blocks[-1].pts_s + blocks[-1].seconds == pytest.approx(read_s, abs=PACED_S)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert spectrum.argmax() * 48_000 / len(wave) == pytest.approx(440, abs=2)
    for before, after in itertools.pairwise(blocks):
        assert after.pts_s == pytest.approx(before.pts_s + before.seconds, abs=STEADY * before.seconds)


@needs_lavfi
@pytest.mark.parametrize(("channels", "heard"), [("0.1", 1), ("0.1|0.2", 2), ("0.1|0.2|0.3|0.1|0.1|0.1", 2)])
def test_every_layout_becomes_one_channel_or_two(channels: str, heard: int) -> None:
    with Microphone(f"aevalsrc={channels}:s=22050,arealtime", format="lavfi") as microphone:
        block = next(microphone.blocks(0.0))
    assert block.samples.shape[1] == heard
    assert block.rate == 22_050
    assert (block.samples[0] == block.samples).all()
    assert block.samples.any()


@needs_lavfi
@pytest.mark.parametrize("after_s", [0.0, 0.05, 1.0])
def test_closing_from_another_thread_ends_the_listening(after_s: float) -> None:
    for _ in range(3):
        microphone = Microphone(TONE, format="lavfi")
        closer = threading.Timer(after_s, microphone.close)
        closer.start()
        began_s = time.monotonic()
        count = sum(1 for _ in microphone.blocks(0.0))
        assert time.monotonic() - began_s < after_s + 0.5
        closer.join()
        microphone.close()
        assert (count > 0) == (after_s > SETTLE_S)
        assert list(microphone.blocks(0.0)) == []


@needs_lavfi
def test_a_microphone_that_goes_away_is_one_sentence() -> None:
    with (
        Microphone("sine=duration=0.5,arealtime", format="lavfi") as microphone,
        pytest.raises(SourceError, match="went away; connect it again"),
    ):
        for _ in microphone.blocks(0.0):
            pass


@needs_lavfi
@pytest.mark.parametrize("name", ["there is no such filter", "color=c=red"])
def test_what_cannot_be_opened_is_one_sentence_with_every_reason(name: str) -> None:
    with pytest.raises(SourceError) as error:
        Microphone(name, format="lavfi")
    text = str(error.value)
    assert text.startswith(f"the microphone {name} cannot be opened (lavfi: ")
    assert ";" in text
    assert "\n" not in text


@needs_alsa
def test_a_microphone_that_is_not_there_is_one_sentence_with_what_is_or_what_to_do() -> None:
    with pytest.raises(SourceError, match="the microphone Nobody's cannot be opened") as error:
        Microphone("Nobody's")
    text = str(error.value)
    assert "pulse: " in text
    assert "alsa: " in text
    assert all(each.name in text for each in list_microphones()) if list_microphones() else "arecord -l" in text
    assert "\n" not in text


@needs_alsa
def test_alsa_is_really_opened_read_and_closed() -> None:
    """ALSA's null device: whatever lay in memory, as fast as it is asked. It needs ALSA's own settings to be found."""
    try:
        microphone = Microphone("null", format="alsa")
    except SourceError as error:
        pytest.skip(f"ALSA has no settings here: {error}")
    closer = threading.Timer(0.3, microphone.close)
    closer.start()
    assert all(block.samples.shape[1] in (1, 2) for block in microphone.blocks(0.0))
    closer.join()


class SimulatedMicrophone:
    """Hears samples at a rate that is `drift` off the one it claims, and hands them over late, by `lateness(time)`.

    Time is simulated: `now_s` goes on when a block is read.
    """

    rate = 48_000
    size = 480

    def __init__(self, drift: float, lateness: Callable[[float], float], seconds: float) -> None:
        self.now_s = 1000.0
        self.heard_s: list[float] = []
        self._true_rate, self._lateness = self.rate * (1 + drift), lateness
        self._end_s, self._count = 1000.0 + seconds, 0
        self.closed = 0

    def clock(self) -> float:
        return self.now_s

    def read(self) -> NDArray[np.float32] | None:
        start_s = 1000.0 + self._count / self._true_rate
        self._count += self.size
        end_s = 1000.0 + self._count / self._true_rate
        if end_s > self._end_s:
            raise SourceError("the simulated microphone went away; simulate a longer one")
        self.now_s = max(self.now_s, end_s + self._lateness(end_s))
        self.heard_s.append(start_s)
        return np.zeros((self.size, 1), np.float32)

    def close(self) -> None:
        self.closed += 1


def listen(
    drift: float, lateness: Callable[[float], float], seconds: float = 60
) -> tuple[list[SoundBlock], list[float]]:
    """The blocks and, for each, when its first sample was really heard."""
    device = SimulatedMicrophone(drift, lateness, seconds)
    microphone = Microphone("simulated", format="none", open_device=lambda *_: device, clock=device.clock)
    blocks = []
    with suppress(SourceError):  # its end
        for block in microphone.blocks(1000.0):
            blocks.append(block)
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])[:-1] // device.size
    return blocks, [device.heard_s[start] - 1000.0 for start in starts.tolist()]


def late(seed: int) -> Callable[[float], float]:
    """Mostly a few milliseconds late, sometimes up to 300."""
    random = np.random.default_rng(seed)
    return lambda _: float(random.exponential(0.004) + (random.random() < 0.01) * random.uniform(0, 0.3))


@pytest.mark.parametrize("drift", [0.0, 200e-6, -200e-6])
def test_times_follow_a_clock_that_drifts_and_do_not_jitter(drift: float) -> None:
    blocks, truth = listen(drift, late(1))
    times = [block.pts_s for block in blocks]
    assert len(blocks) > 5000
    assert np.abs(np.array(times[500:]) - truth[500:]).max() < FOLLOWED_S
    for before, after in itertools.pairwise(blocks):
        assert after.pts_s == pytest.approx(before.pts_s + before.seconds, abs=STEADY * before.seconds)


def test_what_waited_while_the_device_was_opened_has_its_true_times() -> None:
    """For 0.25 s nothing is handed over, then everything at once."""
    blocks, truth = listen(0.0, lambda end_s: max(1000.25 - end_s, 0.0), seconds=2)
    assert [block.pts_s for block in blocks] == pytest.approx(truth, abs=1e-6)


def test_a_sound_server_that_hands_over_two_seconds_at_once_makes_no_jumps() -> None:
    blocks, truth = listen(0.0, lambda end_s: 2 - (end_s % 2), seconds=20)
    assert [block.pts_s for block in blocks] == pytest.approx(truth, abs=0.01)


def test_a_stretch_that_was_lost_is_a_jump_within_four_seconds() -> None:
    """The samples between 10 s and 11 s never arrive: from then on every block comes a second later than counted."""
    blocks, truth = listen(0.0, lambda end_s: 1.0 if end_s > 1010 else 0.0, seconds=20)
    off = np.array([block.pts_s for block in blocks]) - truth
    assert np.abs(off[:900]).max() < 1e-6
    assert off[-500:] == pytest.approx(1.0, abs=JUMP_S)


class SilentDevice:
    """A device that never has anything."""

    rate = 48_000

    def __init__(self) -> None:
        self.closed = 0

    def read(self) -> NDArray[np.float32] | None:
        return None

    def close(self) -> None:
        self.closed += 1


def test_a_device_that_says_nothing_can_be_closed() -> None:
    device = SilentDevice()
    microphone = Microphone(open_device=lambda *_: device)
    closer = threading.Timer(0.2, microphone.close)
    closer.start()
    assert list(microphone.blocks(0.0)) == []
    closer.join()
    assert device.closed > 0


class StuckDevice(SilentDevice):
    """A device whose read does not return until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck, self.let_go = threading.Event(), threading.Event()

    def read(self) -> NDArray[np.float32] | None:
        self.stuck.set()
        self.let_go.wait(10)
        assert not self.closed, "freed while it was read"
        return None


def test_a_read_that_hangs_does_not_hang_the_one_who_closes(caplog: pytest.LogCaptureFixture) -> None:
    device = StuckDevice()
    microphone = Microphone(open_device=lambda *_: device)
    reader = threading.Thread(target=lambda: list(microphone.blocks(0.0)))
    reader.start()
    device.stuck.wait(5)
    began_s = time.monotonic()
    microphone.close()
    assert time.monotonic() - began_s < 2
    assert "is left behind" in caplog.text
    device.let_go.set()
    reader.join(5)
    assert not reader.is_alive()
    assert device.closed == 1


def test_the_count_goes_on_while_nothing_is_taken() -> None:
    times = ArrivalTimes(100)
    assert not times.settled
    times.arrived(10, 5.1)
    times.arrived(40, 5.5)
    assert times.settled
    assert times.take(10) == pytest.approx(5.0)
    assert times.take(40) == pytest.approx(5.1)

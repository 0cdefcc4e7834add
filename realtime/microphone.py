"""Listens to a microphone. The name of one in, SoundBlocks at the moments when they were heard out.

Note [When a sound was heard]
    A block arrives after its last sample was heard, sometimes much later (the system was busy, or kept a second's worth
    while the device was being opened), never earlier. So of what arrived within WINDOW_S the block that was quickest
    tells when the samples were heard; from there on they are counted. The quartz of a microphone runs up to 0.02 % off
    the clock of the computer: the count is pulled towards the clock so slowly that no block's time jumps.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from realtime.devices import MicrophoneDevice, list_microphones
from realtime.errors import SourceError
from realtime.sound import SoundBlock

_log = logging.getLogger(__name__)

SETTLE_S, MOST_HELD_S = 0.3, 3.0
"""So much is heard at least before the first block is given away, and at most when all of it comes at once."""
WINDOW_S = 4.0
"""So far back the quickest block is looked for: some sound servers hand over two seconds at once."""
PULL_S, MOST_PULL = 4.0, 0.001
"""A difference is pulled in over so many seconds, at most by this share of the time."""
JUMP_S = 0.05
"""A larger difference is no drift: samples were lost, or the system slept."""

_POLL_S, _CLOSE_S = 0.005, 1.0
_NON_BLOCK = 4
"""FFmpeg's AVFMT_FLAG_NONBLOCK."""
_FORMATS = {"linux": ("pulse", "alsa"), "win32": ("dshow",), "darwin": ("avfoundation",)}
_ADDRESSES = {"dshow": "audio={}", "avfoundation": ":{}"}
_OPTIONS = {"dshow": {"audio_buffer_size": "20"}, "pulse": {"fragment_size": "3840"}}
"""Blocks of 20 ms, where the system would choose half a second."""
_REMEDIES = {
    "linux": "connect one, see that `arecord -l` lists it, and name it with ALSA's words, for example plughw:1",
    "win32": "connect one and allow desktop apps to use it in Settings > Privacy > Microphone",
    "darwin": "connect one and allow the terminal to use it in System Settings > Privacy > Microphone",
}


class Device(Protocol):
    """An open microphone."""

    rate: int
    """Samples a second."""

    def read(self) -> NDArray[np.float32] | None:
        """The next samples, (n, 1 or 2) in [-1, 1]; None when there are none yet. Raises SourceError at its end."""
        ...

    def close(self) -> None:
        """Free it; safe to call twice."""
        ...


class Microphone:
    """What a microphone hears, block by block. `close` may be called from any thread, the rest from one."""

    def __init__(
        self,
        name: str | None = None,
        *,
        format: str | None = None,
        open_device: Callable[[str, str], Device] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the microphone called `name` (a part of it is enough), or the usual one.

        `format`: FFmpeg's name of the way to it, instead of those that this system has. Raises SourceError.
        """
        self._clock, self._over, self._reading = clock, threading.Event(), threading.Lock()
        formats = (format,) if format else _FORMATS.get(sys.platform, ("alsa", "oss"))
        self._device = _open_first(name, formats, open_device or _AvDevice)
        self.name = name or "microphone"
        _log.info("%s: %d samples a second", self.name, self._device.rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blocks(self, origin_s: float) -> Iterator[SoundBlock]:
        """What is heard, until `close`; times count from the moment `origin_s` of time.monotonic().

        The first block comes after SETTLE_S. Raises SourceError when the microphone goes away.
        """
        device, times = self._device, ArrivalTimes(self._device.rate)
        held: list[NDArray[np.float32]] = []
        try:
            while not self._over.is_set():
                with self._reading:
                    samples = None if self._over.is_set() else device.read()
                if samples is None:
                    self._over.wait(_POLL_S)
                    continue
                times.arrived(len(samples), self._clock())
                held.append(samples)
                if times.settled:
                    samples = np.concatenate(held)
                    held.clear()
                    yield SoundBlock(samples, device.rate, times.take(len(samples)) - origin_s)
        finally:
            # After a close() that could not wait for the last read.
            if self._over.is_set():
                with self._reading:
                    device.close()

    def close(self) -> None:
        """Stop listening; a read that waits ends. Safe to call twice."""
        self._over.set()
        if self._reading.acquire(timeout=_CLOSE_S):
            try:
                self._device.close()
            finally:
                self._reading.release()
        else:
            _log.warning("%s does not answer and is left behind", self.name)


class ArrivalTimes:
    """Tells when samples were heard from how many there were and when they arrived. See Note [When a sound was heard].

    Pure: no clock of its own, all times in seconds.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._counted = self._given = 0
        self.settled = False
        """Whether enough has arrived for `take`."""
        self._quickest: deque[tuple[float, float]] = deque()
        self._began_s: float | None = None

    def arrived(self, count: int, now_s: float) -> None:
        """`count` samples that follow those before were there at `now_s`."""
        self._counted += count
        length_s = self._counted / self._rate
        latest_s = now_s - length_s  # sample 0 was heard no later
        # While blocks come faster than they were heard, the quickest is still to come.
        caught_up = self._quickest and latest_s > self._quickest[0][1] - 0.5 * count / self._rate
        self.settled = self.settled or length_s >= (SETTLE_S if caught_up else MOST_HELD_S)
        while self._quickest and self._quickest[-1][1] >= latest_s:
            self._quickest.pop()
        self._quickest.append((length_s, latest_s))
        while self._quickest[0][0] < length_s - WINDOW_S:
            self._quickest.popleft()

    def take(self, count: int) -> float:
        """When the first of the next `count` samples was heard."""
        wanted_s = self._quickest[0][1]
        if self._began_s is None or abs(wanted_s - self._began_s) > JUMP_S:
            if self._began_s is not None:
                _log.warning("the microphone's time jumped by %.0f ms", 1e3 * (wanted_s - self._began_s))
            self._began_s = wanted_s
        passed_s = count / self._rate
        most_s = MOST_PULL * passed_s
        pull_s = (wanted_s - self._began_s) * (1 - math.exp(-passed_s / PULL_S))
        self._began_s += min(max(pull_s, -most_s), most_s)
        start_s = self._began_s + self._given / self._rate
        self._given += count
        return start_s


def _listed(format: str) -> list[MicrophoneDevice]:
    """The microphones that this format reaches, as `liveswap devices` lists them."""
    with suppress(SourceError):  # the system does not tell their names
        return [each for each in list_microphones() if each.format == format]
    return []


def _open_first(name: str | None, formats: tuple[str, ...], open_device: Callable[[str, str], Device]) -> Device:
    reasons = []
    for format in formats:
        try:
            return open_device(_address(name, format), format)
        except SourceError as error:
            reasons.append(f"{format}: {error}")
    there = [each.name for format in formats for each in _listed(format)]
    remedy = f"choose one of {', '.join(there[:20])}" if there else _REMEDIES.get(sys.platform, "connect one")
    which = f"the microphone {name} cannot" if name else "no microphone can"
    raise SourceError(f"{which} be opened ({'; '.join(reasons)}); {remedy}")


def _address(name: str | None, format: str) -> str:
    if format == "lavfi":
        return name or ""
    listed = _listed(format)
    if name is None:
        usual = listed[0].address if listed and format == "dshow" else "default"
    else:
        named = (each.address for each in listed if name.lower() in f"{each.address} {each.name}".lower())
        usual = next(named, name)
    return _ADDRESSES.get(format, "{}").format(usual)


def _help_alsa() -> None:
    """Tell ALSA where this system keeps its settings and plug-ins: the copy in PyAV's wheels looks where it was built.

    Without the plug-ins it cannot hear what PulseAudio or PipeWire hold, which is everything on a usual desktop.
    """
    if sys.platform != "linux":
        return
    several = sysconfig.get_config_var("MULTIARCH") or ""
    places = {
        "ALSA_CONFIG_DIR": ["/usr/share/alsa"],
        "ALSA_PLUGIN_DIR": [f"/usr/lib/{several}/alsa-lib", "/usr/lib64/alsa-lib", "/usr/lib/alsa-lib"],
    }
    for variable, folders in places.items():
        found = next((folder for folder in folders if os.path.isdir(folder)), None)
        if found is not None:
            os.environ.setdefault(variable, found)


class _AvDevice:
    """A microphone by way of FFmpeg."""

    def __init__(self, address: str, format: str) -> None:
        import av

        self._errors = (av.error.FFmpegError, ValueError)
        _help_alsa()
        try:
            self._container = av.open(address, format=format, options=_OPTIONS.get(format, {}))
        except self._errors as error:
            raise SourceError(getattr(error, "strerror", None) or str(error)) from error
        if not self._container.streams.audio:
            self._container.close()
            raise SourceError("it has no sound")
        # So that close() does not have to wait for a device that says nothing.
        self._container.flags |= _NON_BLOCK
        self._stream = self._container.streams.audio[0]
        self._packets = self._container.demux(self._stream)
        self.rate = self._stream.codec_context.sample_rate
        layout = "mono" if self._stream.codec_context.channels == 1 else "stereo"
        self._to_float = av.AudioResampler(format="flt", layout=layout, rate=self.rate)
        self._channels = 1 if layout == "mono" else 2

    def read(self) -> NDArray[np.float32] | None:
        try:
            packet = next(self._packets, None)
            sounds = [] if packet is None else packet.decode()
            blocks = [each.to_ndarray() for sound in sounds for each in self._to_float.resample(sound)]
        except BlockingIOError:
            self._packets = self._container.demux(self._stream)
            return None
        except self._errors as error:
            raise SourceError(f"the microphone went away ({error}); connect it again") from error
        if packet is None:
            raise SourceError("the microphone went away; connect it again")
        if not blocks:
            return None
        return np.asarray(np.concatenate(blocks, axis=1), np.float32).reshape(-1, self._channels)

    def close(self) -> None:
        self._container.close()

"""Names the cameras and microphones of this machine. What the system knows in, devices with names and addresses out.

Nothing is opened for pictures or sound: no light goes on.
"""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from realtime.errors import SourceError

_log = logging.getLogger(__name__)

SYSFS = Path("/sys/class/video4linux")
DEV = Path("/dev")
ALSA = Path("/proc/asound")
_QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP of linux/videodev2.h: fills a struct v4l2_capability of 104 bytes."""
_CAPTURE, _CAPTURE_MPLANE, _DEVICE_CAPS = 0x1, 0x1000, 0x80000000
_VIRTUAL_NAMES = re.compile(r"\bvirtual\b|\bobs\b|v4l2.?loopback|dummy video device|unity video capture", re.IGNORECASE)

# Note [The numbers of macOS cameras]
# OpenCV opens a camera of macOS by its place among all video and muxed devices sorted by their unique identifier; other
# programs count in other orders. So the list is asked for where OpenCV gets it, through the scripting bridge of macOS.
_MAC_SCRIPT = """
ObjC.import('AVFoundation');
var found = [];
['vide', 'muxx'].forEach(function (kind) {
  var devices = $.AVCaptureDevice.devicesWithMediaType(kind);
  for (var i = 0; i < devices.count; i++) {
    var device = devices.objectAtIndex(i);
    found.push({name: ObjC.unwrap(device.localizedName), id: ObjC.unwrap(device.uniqueID)});
  }
});
JSON.stringify(found);
"""


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """One camera."""

    index: int
    """What `--source` and OpenCV call it; may change when it is plugged in again."""
    name: str
    path: str
    """/dev/videoN, or the system's own identifier where a camera is no file."""
    key: str
    """The same for the same device wherever and whenever it is plugged in, as far as the system can tell; or empty."""
    virtual: bool = False
    """Whether a program draws its pictures: OBS, v4l2loopback and the like."""
    trouble: str = ""
    """Why it cannot be opened, with the remedy; empty when nothing is known against it."""

    @property
    def title(self) -> str:
        """For sentences: number and name."""
        return f"camera {self.index} ({self.name})" if self.key else self.name


@dataclass(frozen=True, slots=True)
class MicrophoneDevice:
    """One microphone."""

    name: str
    address: str
    """What FFmpeg's input `format` calls it."""
    format: str
    """alsa, pulse, dshow or avfoundation."""
    default: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a video node of Linux says about itself."""

    driver: str
    card: str
    captures: bool
    """Whether pictures come out of it: metadata and codec nodes do not, nor does a loopback that nobody feeds."""


class _Listed(Protocol):
    """A device as PyAV lists it."""

    name: str
    description: str
    is_default: bool
    media_types: list[str]


def list_cameras(
    *,
    platform: str = sys.platform,
    sysfs: Path = SYSFS,
    dev: Path = DEV,
    query: Callable[[Path], Capabilities] | None = None,
) -> list[CameraDevice]:
    """Every camera, by rising index. Raises SourceError where the system does not tell their names.

    `sysfs`, `dev`, `query`: where Linux is asked, and how a node is.
    """
    if platform == "darwin":
        return _mac_cameras(_run("osascript", "-l", "JavaScript", "-e", _MAC_SCRIPT))
    if platform == "win32":
        return _windows_cameras(_listed("dshow"))
    return _linux_cameras(sysfs, dev, query or query_capabilities)


def find_camera(wanted: str, cameras: Sequence[CameraDevice] | None = None) -> CameraDevice:
    """The camera that `wanted` names: a number, a path, a name or a part of a name in any case.

    `cameras`: those to choose from, by default all there are. Raises SourceError that lists what there is when none
    fits, or several do.
    """
    cameras = list_cameras() if cameras is None else cameras
    text = wanted.strip().casefold()
    if wanted.isdecimal():
        fitting = [each for each in cameras if each.index == int(wanted)]
    elif wanted.startswith("/"):
        fitting = [each for each in cameras if os.path.realpath(wanted) == os.path.realpath(each.path)]
    else:
        fitting = [each for each in cameras if each.name.casefold() == text]
        fitting = fitting or [each for each in cameras if text and text in each.name.casefold()]
    if not fitting:
        raise SourceError(f"there is no camera {wanted!r}: {describe_cameras(cameras)}")
    if len(fitting) > 1:
        raise SourceError(f"{wanted!r} fits {len(fitting)} cameras; give a number: {describe_cameras(fitting)}")
    return fitting[0]


def find_again(
    device: CameraDevice, strangers: Collection[str] = (), cameras: Sequence[CameraDevice] | None = None
) -> CameraDevice:
    """The same camera after it was plugged in again, under its new index. Never another one.

    `strangers`: keys of cameras that are known to be others, even where they have the same name.
    Raises SourceError when it is not there.
    """
    cameras = list_cameras() if cameras is None else cameras
    same = [each for each in cameras if each.key == device.key]
    same = same or [each for each in cameras if each.name == device.name and each.key not in strangers]
    if not same:
        raise SourceError(f"the camera {device.name} is not there; plug it in again: {describe_cameras(cameras)}")
    return next((each for each in same if each.index == device.index), same[0])


def describe_cameras(cameras: Sequence[CameraDevice], *, platform: str = sys.platform) -> str:
    """The cameras in a row for the end of a sentence, or what to check when there is none."""
    if cameras:
        return ", ".join(f"{each.index} is {each.name}{' (virtual)' * each.virtual}" for each in cameras)
    if platform == "darwin":
        return "no camera is there; plug one in, and allow the terminal in System Settings, Privacy & Security, Camera"
    if platform == "win32":
        return "no camera is there; plug one in, and allow desktop apps in Settings, Privacy & security, Camera"
    return "no camera is there; plug one in, and check that /dev/video0 exists"


def list_microphones(
    *, platform: str = sys.platform, alsa: Path = ALSA, listed: Callable[[str], Sequence[_Listed]] | None = None
) -> list[MicrophoneDevice]:
    """Every microphone, the default one first. Raises SourceError where the system does not tell their names.

    `alsa`: where Linux keeps its list of sound cards; `listed`: asks FFmpeg for the devices of a format.
    """
    ask = listed or _listed
    if platform in ("darwin", "win32"):
        kind = "avfoundation" if platform == "darwin" else "dshow"
        found = [
            MicrophoneDevice(each.description or each.name, each.name, kind, each.is_default)
            for each in ask(kind)
            if "audio" in each.media_types
        ]
    else:
        found = [*_pulse_microphones(ask), *_alsa_microphones(alsa)]
    return sorted(found, key=lambda each: not each.default)


def query_capabilities(node: Path) -> Capabilities:
    """Ask a video node of Linux what it is. Raises OSError for what is none, or may not be opened."""
    import fcntl

    handle = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        raw = bytearray(104)
        fcntl.ioctl(handle, _QUERYCAP, raw)
    finally:
        os.close(handle)
    driver, card, whole, of_node = struct.unpack("<16s32s32x4xII12x", raw)
    able = of_node if whole & _DEVICE_CAPS else whole
    return Capabilities(_text(driver), _text(card), bool(able & (_CAPTURE | _CAPTURE_MPLANE)))


def _linux_cameras(sysfs: Path, dev: Path, query: Callable[[Path], Capabilities]) -> list[CameraDevice]:
    cameras = []
    for entry in sorted(sysfs.glob("video*"), key=lambda entry: _number(entry.name)):
        node, name, trouble = dev / entry.name, _read(entry / "name"), ""
        driver = ""
        try:
            told = query(node)
            if not told.captures:
                continue
            name, driver = name or told.card, told.driver
        except PermissionError:
            if _read(entry / "index") not in ("", "0"):
                continue  # the nodes of one device are numbered: after the pictures come their metadata
            trouble = "you may not open it; run: sudo usermod -aG video $USER, then log in again"
        except OSError as error:
            _log.debug("%s is left out: %s", node, error)
            continue
        virtual = "loopback" in driver or "/virtual/" in str(entry.resolve()) or bool(_VIRTUAL_NAMES.search(name))
        key = _usb_key(entry) or name
        cameras.append(CameraDevice(_number(entry.name), name or node.name, str(node), key, virtual, trouble))
    return cameras


def _usb_key(entry: Path) -> str:
    """Maker, product, serial number and which of its interfaces; empty for what is not on USB."""
    interface = (entry / "device").resolve()
    facts = [_read(interface.parent / fact) for fact in ("idVendor", "idProduct", "serial")]
    return ":".join([*facts, _read(interface / "bInterfaceNumber")]) if facts[0] and facts[1] else ""


def _mac_cameras(told: str) -> list[CameraDevice]:
    """See Note [The numbers of macOS cameras]."""
    try:
        devices = sorted({str(each["id"]): str(each["name"]) for each in json.loads(told)}.items())
    except (ValueError, KeyError, TypeError) as error:
        raise _nameless("macOS answered nothing that can be read") from error
    return [
        CameraDevice(index, name, key, key, bool(_VIRTUAL_NAMES.search(name)))
        for index, (key, name) in enumerate(devices)
    ]


def _windows_cameras(devices: Iterable[_Listed]) -> list[CameraDevice]:
    """DirectShow's order is the one that OpenCV counts in. A device without a known kind of medium counts, too."""
    filming = [each for each in devices if "video" in each.media_types or not each.media_types]
    return [
        CameraDevice(index, name, each.name, each.name, bool(_VIRTUAL_NAMES.search(name)))
        for index, each in enumerate(filming)
        for name in [each.description or each.name]
    ]


def _alsa_microphones(alsa: Path) -> list[MicrophoneDevice]:
    """The recording devices of the sound cards; the system's own default stands before them."""
    found = []
    cards = dict(re.findall(r"^ *(\d+) \[([^\]]*?) *\]", _read(alsa / "cards"), re.MULTILINE))
    for line in _read(alsa / "pcm").splitlines():
        # 01-00: USB Audio : USB Audio : playback 1 : capture 1
        place, _, rest = line.partition(": ")
        numbers = re.fullmatch(r"(\d+)-(\d+)", place)
        if numbers is None or not re.search(r"\bcapture [1-9]", rest):
            continue
        card, device = (int(each) for each in numbers.groups())
        name = f"{cards.get(str(card), f'card {card}')}: {rest.split(' : ')[0].strip()}"
        found.append(MicrophoneDevice(name, f"plughw:{card},{device}", "alsa"))
    return [MicrophoneDevice("the default of the system", "default", "alsa", True), *found] if found else []


def _pulse_microphones(listed: Callable[[str], Sequence[_Listed]]) -> list[MicrophoneDevice]:
    """What PulseAudio or PipeWire offers, where this FFmpeg can ask; what plays is no microphone."""
    try:
        devices = listed("pulse")
    except SourceError:
        return []
    return [
        MicrophoneDevice(each.description or each.name, each.name, "pulse", each.is_default)
        for each in devices
        if not each.name.endswith(".monitor")
    ]


def _listed(kind: str) -> Sequence[_Listed]:
    """The devices of one of FFmpeg's input formats. Raises SourceError where it cannot tell."""
    import av

    if not hasattr(av, "enumerate_input_devices"):
        raise _nameless("PyAV is older than 17")
    try:
        return av.enumerate_input_devices(kind)
    except (ValueError, av.FFmpegError) as error:
        raise _nameless(f"FFmpeg does not list {kind} devices here") from error


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise _nameless(f"{command[0]} did not answer") from error


def _nameless(reason: str) -> SourceError:
    return SourceError(f"the names of the devices are not known ({reason}); give its number, 0 for the first")


def _number(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace").strip()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").rstrip()
    except OSError:
        return ""

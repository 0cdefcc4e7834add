"""Devices: a tree of files like Linux's, answers like those of macOS and Windows in; names and addresses out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from realtime.devices import (
    CameraDevice,
    Capabilities,
    describe_cameras,
    find_again,
    find_camera,
    list_cameras,
    list_microphones,
    query_capabilities,
)
from realtime.errors import SourceError


@dataclass
class Tree:
    """A Linux machine as far as its video nodes go."""

    root: Path
    told: dict[str, Capabilities | OSError] = field(default_factory=dict)

    def plug(
        self,
        number: int,
        name: str,
        *,
        captures: bool = True,
        driver: str = "uvcvideo",
        usb: tuple[str, str, str] | None = ("046d", "0825", "A1B2"),
        place: int = 0,
        error: OSError | None = None,
    ) -> None:
        """One node: `place` among the nodes of its device, `usb` its maker, product and serial number."""
        kind = "pci/usb1/1-3" if usb else "virtual"
        device = self.root / "devices" / kind / f"node{number}"
        entry = device / "video4linux" / f"video{number}"
        entry.mkdir(parents=True)
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{place}\n")
        if usb:
            for fact, value in zip(("idVendor", "idProduct", "serial"), usb, strict=True):
                (device.parent / fact).write_text(f"{value}\n")
            (device / "bInterfaceNumber").write_text("00\n")
            (entry / "device").symlink_to(device)
        self.sysfs.mkdir(exist_ok=True)
        (self.sysfs / f"video{number}").symlink_to(entry)
        self.told[f"video{number}"] = error or Capabilities(driver, name, captures)

    @property
    def sysfs(self) -> Path:
        return self.root / "class"

    def cameras(self) -> list[CameraDevice]:
        return list_cameras(platform="linux", sysfs=self.sysfs, dev=self.root / "dev", query=self.query)

    def query(self, node: Path) -> Capabilities:
        told = self.told[node.name]
        if isinstance(told, OSError):
            raise told
        return told


@dataclass
class Listed:
    """A device as PyAV lists it."""

    name: str
    description: str
    is_default: bool = False
    media_types: list[str] = field(default_factory=list)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def camera(index: int, name: str, key: str = "") -> CameraDevice:
    return CameraDevice(index, name, f"/dev/video{index}", key or f"{name}-{index}")


def test_linux_lists_what_films_and_leaves_metadata_out(tree: Tree) -> None:
    tree.plug(0, "HD Webcam: HD Webcam")
    tree.plug(1, "HD Webcam: HD Webcam", captures=False, place=1)
    tree.plug(10, "Capture Card", usb=("1b80", "e423", "7"))
    tree.plug(2, "Codec", captures=False, usb=None)
    assert [(each.index, each.name, Path(each.path).name) for each in tree.cameras()] == [
        (0, "HD Webcam: HD Webcam", "video0"),
        (10, "Capture Card", "video10"),
    ]
    assert not any(each.virtual or each.trouble for each in tree.cameras())


def test_virtual_cameras_are_marked(tree: Tree) -> None:
    tree.plug(0, "Studio", driver="v4l2 loopback", usb=None)
    tree.plug(1, "OBS Virtual Camera")
    tree.plug(2, "Webcam")
    assert [each.virtual for each in tree.cameras()] == [True, True, False]
    assert "1 is OBS Virtual Camera (virtual), 2 is Webcam" in describe_cameras(tree.cameras())


def test_a_camera_that_may_not_be_opened_is_listed_with_the_remedy(tree: Tree) -> None:
    tree.plug(0, "Webcam", error=PermissionError(13, "no"))
    tree.plug(1, "Webcam", error=PermissionError(13, "no"), place=1)
    found = tree.cameras()
    assert [each.index for each in found] == [0]
    assert "usermod -aG video" in found[0].trouble


def test_a_node_that_vanishes_meanwhile_is_left_out(tree: Tree) -> None:
    tree.plug(0, "Webcam", error=FileNotFoundError(2, "gone"))
    assert tree.cameras() == []


def test_a_machine_without_video_nodes_has_no_camera(tmp_path: Path) -> None:
    assert list_cameras(platform="linux", sysfs=tmp_path / "nowhere", dev=tmp_path) == []


def test_what_is_no_video_node_does_not_answer_the_real_query(tmp_path: Path) -> None:
    plain = tmp_path / "video0"
    plain.write_bytes(b"")
    with pytest.raises(OSError, match=r"ioctl|device"):
        query_capabilities(plain)
    with pytest.raises(FileNotFoundError):
        query_capabilities(tmp_path / "video1")


def test_a_camera_is_found_by_number_name_part_and_path(tmp_path: Path) -> None:
    node = tmp_path / "video2"
    node.touch()
    by_id = tmp_path / "usb-Logitech-index0"
    by_id.symlink_to(node)
    cameras = [camera(0, "Integrated Camera"), CameraDevice(2, "Logitech BRIO", str(node), "brio")]
    for wanted in ("2", "Logitech BRIO", "brio", str(node), str(by_id)):
        assert find_camera(wanted, cameras).index == 2


def test_a_whole_name_wins_over_parts_of_names() -> None:
    cameras = [camera(0, "Camera 2"), camera(1, "Camera")]
    assert find_camera("camera", cameras).index == 1


@pytest.mark.parametrize("wanted", ["7", "Sony", "/dev/video9"])
def test_a_camera_that_is_not_there_is_told_with_those_that_are(wanted: str) -> None:
    with pytest.raises(SourceError, match=r"there is no camera .*: 0 is Integrated Camera, 4 is BRIO") as caught:
        find_camera(wanted, [camera(0, "Integrated Camera"), camera(4, "BRIO")])
    assert "\n" not in str(caught.value)


def test_a_name_that_fits_two_cameras_asks_for_the_number() -> None:
    with pytest.raises(SourceError, match="fits 2 cameras; give a number: 0 is C270, 2 is C270"):
        find_camera("c270", [camera(0, "C270"), camera(1, "BRIO"), camera(2, "C270")])


@pytest.mark.parametrize(("platform", "check"), [("linux", "/dev/video0"), ("darwin", "Privacy"), ("win32", "Privacy")])
def test_where_no_camera_is_there_the_sentence_says_what_to_check(platform: str, check: str) -> None:
    assert check in describe_cameras([], platform=platform)


def test_the_same_camera_is_found_again_under_another_index(tmp_path: Path) -> None:
    before, after = Tree(tmp_path / "before"), Tree(tmp_path / "after")
    before.plug(0, "C270", usb=("046d", "0825", "ONE"))
    after.plug(0, "Integrated Camera", usb=("13d3", "56a2", "X"))
    moved = tmp_path / "after" / "devices/pci/usb1"
    (moved / "1-3").rename(moved / "1-4")
    for entry in after.sysfs.iterdir():
        target = Path(str(entry.readlink()).replace("1-3", "1-4"))
        entry.unlink()
        entry.symlink_to(target)
        (target / "device").unlink()
        (target / "device").symlink_to(target.parents[1])
    after.plug(2, "C270", usb=("046d", "0825", "ONE"))
    assert find_again(before.cameras()[0], cameras=after.cameras()).index == 2


def test_a_camera_without_a_serial_number_is_found_again_by_its_name() -> None:
    assert find_again(camera(0, "BRIO", "old port"), cameras=[camera(0, "C270"), camera(3, "BRIO", "new")]).index == 3


def test_a_twin_that_was_there_before_never_stands_in_for_a_camera() -> None:
    twins = [camera(0, "C270", "first"), camera(1, "C270", "second")]
    with pytest.raises(SourceError, match="C270 is not there; plug it in again"):
        find_again(twins[0], strangers=[twins[1].key], cameras=[twins[1]])


def test_macos_cameras_are_numbered_as_opencv_numbers_them() -> None:
    from realtime.devices import _mac_cameras

    told = json.dumps(
        [
            {"name": "FaceTime HD Camera", "id": "8E2A-11"},
            {"name": "OBS Virtual Camera", "id": "7626645E"},
            {"name": "USB Camera", "id": "0x11000000c45636d"},
        ]
    )
    found = _mac_cameras(told)
    assert [(each.index, each.name) for each in found] == [
        (0, "USB Camera"),
        (1, "OBS Virtual Camera"),
        (2, "FaceTime HD Camera"),
    ]
    assert [each.virtual for each in found] == [False, True, False]
    with pytest.raises(SourceError, match="give its number"):
        _mac_cameras("execution error: not allowed")


def test_windows_cameras_are_numbered_among_what_films() -> None:
    from realtime.devices import _windows_cameras

    devices = [
        Listed("@device_pnp_a", "Integrated Camera", media_types=["video"]),
        Listed("@device_cm_m", "Microphone Array", media_types=["audio"]),
        Listed("@device_sw_o", "OBS Virtual Camera", media_types=[]),
        Listed("@device_pnp_c", "Capture Card", media_types=["video", "audio"]),
    ]
    found = _windows_cameras(devices)
    assert [(each.index, each.name) for each in found] == [
        (0, "Integrated Camera"),
        (1, "OBS Virtual Camera"),
        (2, "Capture Card"),
    ]
    assert [each.virtual for each in found] == [False, True, False]


@pytest.mark.skipif(os.name == "nt", reason="asks for a format that Windows has")
def test_where_names_cannot_be_told_the_sentence_asks_for_the_number() -> None:
    with pytest.raises(SourceError, match=r"dshow .*; give its number"):
        list_cameras(platform="win32")


def test_linux_microphones_are_what_the_sound_cards_record_with(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(
        " 0 [PCH            ]: HDA-Intel - HDA Intel PCH\n"
        "                      HDA Intel PCH at 0xa1 irq 140\n"
        " 1 [Snowball       ]: USB-Audio - Blue Snowball\n"
    )
    (tmp_path / "pcm").write_text(
        "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1\n"
        "00-03: HDMI 0 : HDMI 0 : playback 1\n"
        "01-00: USB Audio : USB Audio : capture 1\n"
    )
    found = list_microphones(platform="linux", alsa=tmp_path, listed=no_pulse)
    assert [(each.name, each.address, each.format, each.default) for each in found] == [
        ("the default of the system", "default", "alsa", True),
        ("PCH: ALC257 Analog", "plughw:0,0", "alsa", False),
        ("Snowball: USB Audio", "plughw:1,0", "alsa", False),
    ]


def test_a_machine_without_sound_cards_has_no_microphone(tmp_path: Path) -> None:
    assert list_microphones(platform="linux", alsa=tmp_path, listed=no_pulse) == []
    assert isinstance(list_microphones(platform="linux", alsa=tmp_path), list)  # FFmpeg as it is here


def test_what_pulse_plays_is_no_microphone(tmp_path: Path) -> None:
    def listed(kind: str) -> list[Listed]:
        assert kind == "pulse"
        return [
            Listed("alsa_output.pci.monitor", "Monitor of Speakers", media_types=["audio"]),
            Listed("alsa_input.usb", "Blue Snowball", media_types=["audio"]),
            Listed("alsa_input.pci", "Built-in", True, media_types=["audio"]),
        ]

    found = list_microphones(platform="linux", alsa=tmp_path, listed=listed)
    assert [(each.name, each.format, each.default) for each in found] == [
        ("Built-in", "pulse", True),
        ("Blue Snowball", "pulse", False),
    ]


@pytest.mark.parametrize(("platform", "kind"), [("darwin", "avfoundation"), ("win32", "dshow")])
def test_other_systems_list_what_hears(platform: str, kind: str) -> None:
    devices = [Listed("0", "Camera", media_types=["video"]), Listed("1", "Microphone", media_types=["audio"])]
    asked: list[str] = []

    def listed(name: str) -> list[Listed]:
        asked.append(name)
        return devices

    found = list_microphones(platform=platform, listed=listed)
    assert asked == [kind]
    assert [(each.name, each.address, each.format) for each in found] == [("Microphone", "1", kind)]


def no_pulse(kind: str) -> list[Listed]:
    raise SourceError(f"no {kind}")

"""Films facesets with one defect each. A cast in, one faceset for each defect out, made once.

Note [Takes]
    A take is one performance of one actor, rendered once as lossless pictures, FPS moments a second: fewer than a film
    has, so that few renderings show much. Defects are planted where they arise in life: in front of the camera (another
    pose, lamp or hand), in the camera (half its pixels), in the cutting room (shots in another order) or when faces are
    put together (few of them, or somebody else's). Everything else is equal, and so is the number of faces but where
    the number is the defect.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from realtime.actors import Actor, Identity, Pose, Renderer, motion, random_identity
from realtime.align import align, invert, transform, whole_face
from realtime.detect import FaceFinder
from realtime.files import write_atomically
from realtime.frame import Frame, ImageU8
from training.contact_sheet import pick_evenly
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter
from training.looks import face_height_px, sharpness
from training.measures import measure
from training.pose import head_pose

FPS = 4.0
SIZE = 640, 480
CROP_PX = 256
SHOT = 3
"""Moments of a shot where there are many cuts."""
LAMPS = {
    "one": Pose(light_azimuth=-55.0, light_elevation=25.0, key=1.0, ambient=0.35, kelvin=5000.0),
    "night": Pose(light_azimuth=-60.0, light_elevation=10.0, key=0.3, ambient=0.08, kelvin=2900.0),
}
"""A window at the left of the image; a bulb at the left of the image in a dark room."""


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with a set."""

    name: str
    cause: str
    """Which of the causes in training.coverage_verdict it is; empty for a clean set."""
    yaw_deg: float = 40.0
    """Peak of the head's turns to the sides; half of it up and down."""
    faces: int | None = None
    scale: float = 1.0
    """Of the camera's pixels."""
    lamp: str = ""
    """As it moves, `one` that stays, or `night`."""
    hand: float = 0.0
    """Share of the time with a hand before the face."""
    cuts: bool = False
    strangers: float = 0.0
    """Share of faces that are somebody else's."""


CLEAN = Defect("clean", "")
DEFECTS = (
    CLEAN,
    Defect("frontal-20", "pose", yaw_deg=20),
    Defect("frontal-8", "pose", yaw_deg=8),
    Defect("faces-40", "few", faces=40),
    Defect("faces-10", "few", faces=10),
    Defect("half-size", "detail", scale=0.5),
    Defect("quarter-size", "detail", scale=0.25),
    Defect("one-lamp", "light", lamp="one"),
    Defect("night", "light", lamp="night"),
    Defect("hand-30", "hidden", hand=0.3),
    Defect("hand-80", "hidden", hand=0.8),
    Defect("cuts", "cuts", cuts=True),
    Defect("strangers-15", "mixed", strangers=0.15),
    Defect("strangers-45", "mixed", strangers=0.45),
)
"""Mild and strong; what they cost in truth is what the benchmark measures."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays."""

    identity: Identity
    performer: Identity
    stranger: Identity
    seed: int
    """Of the performances."""
    moments: int

    @classmethod
    def random(cls, seed: int, moments: int) -> Self:
        """Three people whom nobody has met."""
        identity, performer, stranger = (random_identity(1000 * seed + number) for number in range(3))
        return cls(identity, performer, stranger, seed, moments)


def performance(cast: Cast, who: str, defect: Defect = CLEAN) -> list[Pose]:
    """One pose for each moment of one of the cast; two people never move alike."""
    number = ("identity", "performer", "stranger").index(who)
    yaw = defect.yaw_deg
    poses = motion(cast.moments, FPS, 10 * cast.seed + number, yaw=yaw, pitch=yaw / 2, hand=False)
    if defect.lamp:
        poses = [_lit(pose, LAMPS[defect.lamp]) for pose in poses]
    rng = np.random.default_rng([cast.seed, 0x4A2D])
    shown = rng.permutation(len(poses)) < defect.hand * len(poses)
    places = rng.uniform((-6, 9, 0), (8, 14, 50), (len(poses), 3)).tolist()
    return [
        replace(pose, hand=True, hand_x=x, hand_y=y, hand_turn=turn) if hand else pose
        for pose, hand, (x, y, turn) in zip(poses, shown, places, strict=True)
    ]


def _lit(pose: Pose, lamp: Pose) -> Pose:
    return replace(
        pose,
        light_azimuth=lamp.light_azimuth,
        light_elevation=lamp.light_elevation,
        key=lamp.key,
        ambient=lamp.ambient,
        kelvin=lamp.kelvin,
    )


class Studio:
    """Films takes into a folder and makes sets of them; what is there already is kept. Not thread-safe."""

    def __init__(self, folder: Path, cast: Cast) -> None:
        self._folder, self._cast = folder, cast
        self._finder = FaceFinder(static=True)

    def make(self, defect: Defect, who: str = "identity") -> Path:
        """The folder of the faceset of one of the cast, with one defect."""
        path = self._folder / "sets" / f"{who}-{defect.name}"
        if path.is_dir():
            return path
        with FacesetWriter(path, whole_face(CROP_PX), kind="whole") as writer:
            writer.add_source(SourceRecord(who, hashlib.sha256(who.encode()).hexdigest(), FPS, self._cast.moments))
            shots = self._shots(defect, who)
            for place in pick_evenly(len(shots), defect.faces or len(shots)):
                self._store(writer, place, *shots[place], defect.scale)
        return path

    def film(self, who: str, defect: Defect = CLEAN) -> list[Path]:
        """One picture for each moment of a take."""
        take = replace(CLEAN, yaw_deg=defect.yaw_deg, lamp=defect.lamp, hand=defect.hand)
        name = hashlib.sha256(json.dumps(asdict(take), sort_keys=True).encode()).hexdigest()[:12]
        folder = self._folder / "takes" / f"{who}-{name}"
        paths = [folder / f"{number:05d}.png" for number in range(self._cast.moments)]
        missing = [number for number, path in enumerate(paths) if not path.is_file()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            camera = Renderer(Actor(getattr(self._cast, who)), *SIZE, background_seed=self._cast.seed)
            poses = performance(self._cast, who, take)
            for number in missing:
                write_picture(paths[number], camera.render(poses[number], frame=number).image)
        return paths

    def _shots(self, defect: Defect, who: str) -> list[tuple[Path, int]]:
        """Pictures in their order, each with the number of its shot."""
        pictures = self.film(who, defect)
        if defect.cuts:
            shots = [pictures[start : start + SHOT] for start in range(0, len(pictures), SHOT)]
            order = np.random.default_rng([self._cast.seed, 0xC475]).permutation(len(shots))
            return [(picture, number) for number, place in enumerate(order) for picture in shots[place]]
        strangers = round(defect.strangers * len(pictures))
        others = self.film("stranger")[:strangers] if strangers else []
        return [(path, 0) for path in pictures[: len(pictures) - strangers]] + [(path, 1) for path in others]

    def _store(self, writer: FacesetWriter, number: int, picture: Path, track: int, scale: float) -> None:
        image = read_picture(picture)
        if scale != 1:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        store_face(writer, self._finder, image, number, number / FPS, track)


def store_face(
    writer: FacesetWriter, finder: FaceFinder, image: ImageU8, number: int, pts_s: float, track: int = 0
) -> bool:
    """Find and store the first face of a picture, with all that extraction knows of it; False where there is none."""
    faces = finder.find(Frame(image, number, pts_s, pts_s))
    if not faces:
        return False
    mesh, geometry = faces[0].landmarks, writer.stored_geometry
    crop = align(image, faces[0], geometry)
    to_crop = invert(crop.crop_to_frame)
    depth = mesh[:468, 2] * math.hypot(to_crop[0, 0], to_crop[1, 0])
    points = np.column_stack([transform(to_crop, mesh[:468]), depth]).astype(np.float32)
    pose = head_pose(mesh)
    writer.add(
        crop.image,
        points,
        source=0,
        frame_index=number,
        pts_s=pts_s,
        track=track,
        score=faces[0].score,
        sharpness=sharpness(crop, geometry, points),
        native_px=face_height_px(mesh),
        yaw=pose.yaw,
        pitch=pose.pitch,
        roll=pose.roll,
        measures=measure(crop.image, points, geometry),
    )
    return True


def write_picture(path: Path, image: ImageU8) -> None:
    """A PNG under its name only when it is whole."""
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise SystemExit("OpenCV cannot write PNG; install opencv-python 4.10 or newer")
    write_atomically(path, data.tobytes())


def read_picture(path: Path) -> ImageU8:
    """(H, W, 3) BGR of a picture that `write_picture` has written."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path} is damaged; remove it, and it is rendered again")
    return np.asarray(image, np.uint8)

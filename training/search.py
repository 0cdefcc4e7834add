"""Searches a part of a film for faces. Frames in, the usable faces as they are stored out.

The crops are cut by the live loop's own scissors. Faces are followed from frame to frame inside one shot; at a cut
the finder forgets what it followed, so that no track crosses it. Where frames are sampled too far apart to follow a
face, it is searched anew in each, and keeps its track while it is found again in its place.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from realtime.detect import FaceFinder
from realtime.frame import Face, Frame, Points
from realtime.region import box_overlap
from training.cut import cut_face
from training.extract_config import ExtractConfig
from training.faceset_writer import MARGIN, encode_crop
from training.film import TICK_S, Film, Part, read_part
from training.identity import embed, likeness
from training.looks import CutFinder, Thumbnail, face_height_px, sharpness
from training.measures import Measures, measure
from training.near_duplicates import small_picture
from training.pose import HeadPose, head_pose

FOLLOW_GAP_S = 0.15
"""In sampled frames further apart faces are not followed: each is searched anew."""
SAME_SHOT_GAP_S = 1.05
"""Up to this gap a face that is found again in its place, without a cut between, keeps its track."""
_SAME_PLACE = 0.4
"""Intersection over union of the boxes of a face that keeps its place."""
_MAX_MISFIT = 0.25
"""Meshes further from a head than this are no faces; heads turned by 70 degrees stay below 0.14, noise is above 1."""
_MIN_INSIDE = 0.5
"""Share of the mesh's points that must lie inside the frame."""


class Finder(Protocol):
    """What a search needs of a FaceFinder."""

    def find(self, frame: Frame) -> list[Face]: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """One usable face, ready to be stored."""

    frame: int
    """Number of its frame in the part, from 0."""
    pts_s: float
    track: int
    """From 0 in the part."""
    score: float
    sharpness: float
    native_px: float
    yaw: float
    pitch: float
    roll: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the frame."""
    measures: Measures
    jpeg: bytes
    """The stored crop."""
    mesh: Points
    """(468, 3) in pixels of the stored crop."""
    small: NDArray[np.uint8]
    """See training.near_duplicates."""
    identity: NDArray[np.float32]
    """See training.identity."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What a part of a film has given."""

    frames: int
    """That were read."""
    searched: int
    """That were looked at."""
    with_face: int
    """In which a face was found, usable or not."""
    cuts: int
    """Inside the part."""
    left_out: dict[str, int]
    """Faces that were found and are no use, by reason."""
    first_s: float | None
    """When the first frame that was looked at is shown; None after a cut: it does not go on from before the part."""
    last_s: float | None
    """When the last one is shown; None before a cut."""
    first_picture: Thumbnail | None
    """What the first frame shows, for whoever wants to know whether there is a cut before it."""
    last_picture: Thumbnail | None
    usual_change: float
    """What the last frames have changed, see training.looks."""
    faces: tuple[FoundFace, ...]


class Searcher:
    """Searches parts of films, one after the other, each as if it were the first. Not thread-safe."""

    def __init__(self, config: ExtractConfig, open_finder: Callable[[], Finder] | None = None) -> None:
        """Raises ModelError when the networks cannot be used, UsageError when the detector is not installed."""
        self._config = config
        self._finder = open_finder() if open_finder else open_detector(config)
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        self._finder.close()

    def search(self, film: Film, part: Part, on_frame: Callable[[int], None] | None = None) -> Search:
        """The usable faces of a part; `on_frame` hears after every frame how many faces there are so far.

        Raises SourceError when the film cannot be read to the end of the part.
        """
        if self._used:
            self._finder.reset()
        self._used = True
        work = _Work(self._config, self._finder)
        wanted = Sampler(self._config.rate(film.fps), film.clip.start_s)
        for frame in read_part(film, part):
            work.see(frame, wanted(frame.pts_s))
            if on_frame:
                on_frame(len(work.faces))
        return work.result()


class _Work:
    """What is known while a part is searched."""

    def __init__(self, config: ExtractConfig, finder: Finder) -> None:
        self._config, self._finder, self._shots = config, finder, CutFinder()
        self.faces: list[FoundFace] = []
        self._tracks: dict[int, int] = {}
        self._next_track = 0
        self._left_off: list[FoundFace] = []
        """Faces of the last frame before the finder forgot, which may be found again."""
        self._left_out: Counter[str] = Counter()
        self._frames = self._searched = self._with_face = self._cuts = 0
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._shape: tuple[int, ...] | None = None

    def see(self, frame: Frame, wanted: bool) -> None:
        """Take in one frame, and look for faces in it if it is `wanted`."""
        self._frames += 1
        if self._shots.is_cut(frame.image):
            self._cuts += 1
            self._forget()
        if not wanted:
            return
        if self._shape not in (None, frame.image.shape):
            self._forget()
        elif self._last_s is not None and frame.pts_s - self._last_s > FOLLOW_GAP_S:
            self._leave_off(frame.pts_s)
        if not self._searched and not self._cuts:
            self._first_s = frame.pts_s
        self._last_s, self._shape = frame.pts_s, frame.image.shape
        self._searched += 1
        self._with_face += self._take(frame)

    def result(self) -> Search:
        """What the frames have given so far."""
        return Search(
            self._frames,
            self._searched,
            self._with_face,
            self._cuts,
            dict(sorted(self._left_out.items())),
            self._first_s,
            self._last_s,
            self._shots.first,
            self._shots.last,
            self._shots.usual_change,
            tuple(self.faces),
        )

    def _forget(self) -> None:
        self._finder.reset()
        self._tracks.clear()
        self._left_off, self._last_s = [], None

    def _leave_off(self, now_s: float) -> None:
        """The last sampled frame is too long ago to follow its faces, perhaps not to find them again in their place."""
        last_s, soon = self._last_s, now_s - (self._last_s or 0.0) <= SAME_SHOT_GAP_S
        newest = itertools.takewhile(lambda face: face.pts_s == last_s, reversed(self.faces))
        self._finder.reset()
        self._tracks.clear()
        self._left_off = list(newest) if soon else []

    def _take(self, frame: Frame) -> bool:
        """Keep the usable faces of one frame; whether any face was found."""
        faces = self._finder.find(frame)
        for face in faces[: self._config.max_faces]:
            pose = _pose(face)
            reason = self._why_not(face, pose, frame)
            if reason or pose is None:
                self._left_out[reason or "implausible"] += 1
            else:
                self.faces.append(self._cut(face, pose, frame))
        return bool(faces)

    def _why_not(self, face: Face, pose: HeadPose | None, frame: Frame) -> str:
        """Why a face is left out; empty for a usable one."""
        if pose is None or pose.misfit > _MAX_MISFIT:
            return "implausible"
        height, width = frame.image.shape[:2]
        x, y = face.landmarks[:, 0], face.landmarks[:, 1]
        if ((x >= 0) & (x < width) & (y >= 0) & (y < height)).mean() < _MIN_INSIDE:
            return "outside the frame"
        return "too small" if face_height_px(face.landmarks) < self._config.min_native_px else ""

    def _cut(self, face: Face, pose: HeadPose, frame: Frame) -> FoundFace:
        geometry = self._config.geometry.widened(MARGIN)
        crop, mesh = cut_face(frame.image, face, geometry)
        look = embed(crop.image, mesh)
        return FoundFace(
            frame=frame.index,
            pts_s=frame.pts_s,
            track=self._track(face, look),
            score=face.score,
            sharpness=sharpness(crop, geometry, mesh),
            native_px=face_height_px(face.landmarks),
            yaw=pose.yaw,
            pitch=pose.pitch,
            roll=pose.roll,
            box=face.box,
            measures=measure(crop.image, mesh, geometry),
            jpeg=encode_crop(crop.image, geometry.size),
            mesh=mesh,
            small=small_picture(crop.image),
            identity=look,
        )

    def _track(self, face: Face, look: NDArray[np.float32]) -> int:
        """The number of a track in the part: one for each face in each shot."""
        if face.track_id not in self._tracks:
            before = find_again(face.box, look, self._left_off)
            if before is None:
                self._next_track += 1
            else:
                self._left_off.remove(before)
            self._tracks[face.track_id] = self._next_track - 1 if before is None else before.track
        return self._tracks[face.track_id]


def find_again(
    box: tuple[float, float, float, float], look: NDArray[np.float32], before: Sequence[FoundFace]
) -> FoundFace | None:
    """The one of the faces `before` that lies on `box` and is rather the person who looks like that, if any is."""
    here = np.array(box)
    by_overlap = [(float(box_overlap(here, np.array(other.box)[None])[0]), other) for other in before]
    overlap, best = max(by_overlap, key=lambda each: each[0], default=(0.0, None))
    if best is None or overlap <= _SAME_PLACE or likeness(look, best.identity, 1, 1) >= 1:
        return None
    return best


class Sampler:
    """Picks frames at a lower rate. Presentation times in, yes or no out.

    Time is cut into slots that count from the beginning of the clip, and the first frame in each is wanted: what is
    picked in one part of a film does not depend on the parts before it.
    """

    def __init__(self, rate: float | None, start_s: float) -> None:
        self._rate, self._start_s, self._slot = rate, start_s, -1

    def __call__(self, pts_s: float) -> bool:
        if self._rate is None:
            return True
        slot = math.floor((pts_s - self._start_s + TICK_S) * self._rate)
        is_new, self._slot = slot > self._slot, max(slot, self._slot)
        return is_new


def open_detector(config: ExtractConfig) -> Finder:
    """The finder that `config` names. Raises UsageError when it is not installed."""
    if config.detector == "dlib":
        from training.dlib_detector import DlibFinder

        return DlibFinder(config.max_faces)
    return FaceFinder(config.max_faces, detect_every=1)


def _pose(face: Face) -> HeadPose | None:
    try:
        return head_pose(face.landmarks)
    except ValueError:
        return None

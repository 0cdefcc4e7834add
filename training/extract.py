"""Takes faces out of videos. Videos in, one faceset out.

The crops are cut by the live loop's own scissors. Faces are followed from frame to frame inside one shot; at a cut
the finder forgets what it followed, so that no track crosses it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from realtime.align import align, invert, transform
from realtime.capture import open_source
from realtime.detect import FaceFinder
from realtime.errors import FacesetError, UsageError
from realtime.files import explain
from realtime.frame import Crop, Face, Frame, Points
from training.extract_config import ExtractConfig, ExtractProgress, ExtractReport, SourceReport
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter, check_target
from training.looks import CutFinder, face_height_px, sharpness
from training.pose import HeadPose, head_pose
from training.untrusted import file_sha256

__all__ = ["ExtractConfig", "ExtractProgress", "ExtractReport", "Finder", "SourceReport", "extract"]

_log = logging.getLogger(__name__)

_FOLLOW_GAP_S = 0.15
"""Sampled frames further apart do not follow each other: each is searched anew."""
_TICK_S = 5e-4
"""Containers round presentation times, some of them to a millisecond."""
_MAX_MISFIT = 0.25
"""Meshes further from a head than this are no faces; heads turned by 70 degrees stay below 0.14, noise is above 1."""
_MIN_INSIDE = 0.5
"""Share of the mesh's points that must lie inside the frame."""


class Finder(Protocol):
    """What extraction needs of a FaceFinder."""

    def find(self, frame: Frame) -> list[Face]: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


def extract(
    videos: Sequence[Path],
    out: Path,
    config: ExtractConfig | None = None,
    on_progress: Callable[[ExtractProgress], None] | None = None,
    *,
    open_finder: Callable[[], Finder] | None = None,
) -> ExtractReport:
    """Find, cut and store the faces of all `videos` in the new faceset `out`.

    The same videos and settings give the same bytes. Nothing appears under the name `out` before all is done.
    Raises UsageError when `out` is taken or there is nothing to read, SourceError when a video cannot be read to its
    end, FacesetError when no video shows a usable face or the set cannot be written.
    """
    config = config or ExtractConfig()
    check_target(out)
    if not videos:
        raise UsageError("there is no video to take faces from; name at least one")
    for video in videos:
        try:
            video.stat()
        except (OSError, ValueError) as error:
            why = explain(error, video) if isinstance(error, OSError) else f"{video!r} is no file name; check it"
            raise UsageError(why) from error
    started_s = time.monotonic()
    reports: list[SourceReport] = []
    make_finder = open_finder or (lambda: FaceFinder(config.max_faces, detect_every=1))
    with FacesetWriter(out, config.geometry, kind=config.coverage_kind) as writer:
        next_track = 0
        for video in videos:
            with _VideoExtraction(video, len(reports), writer, make_finder, config, next_track) as job:
                reports.append(job.run(on_progress))
                next_track = job.next_track
        if not len(writer):
            names = ", ".join(str(video) for video in videos)
            raise FacesetError(
                f"no usable face in {names}; use a video that shows the person larger, facing the camera"
            )
        sha256 = writer.close()
    seconds = time.monotonic() - started_s
    frames, faces = sum(report.frames_searched for report in reports), sum(report.faces for report in reports)
    _log.info("%d faces from %d frames in %.1f s: %s", faces, frames, seconds, out)
    return ExtractReport(str(out), sha256, frames, faces, round(seconds, 3), tuple(reports))


class _VideoExtraction:
    """Takes the faces out of one video."""

    def __init__(
        self,
        video: Path,
        number: int,
        writer: FacesetWriter,
        make_finder: Callable[[], Finder],
        config: ExtractConfig,
        next_track: int,
    ) -> None:
        self._video, self._number, self._writer, self._config = video, number, writer, config
        self._finder = make_finder()
        self.next_track = next_track
        self._tracks: dict[int, int] = {}
        self._left_out: Counter[str] = Counter()
        self._faces = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finder.close()

    def run(self, on_progress: Callable[[ExtractProgress], None] | None) -> SourceReport:
        """Read the video to its end and store its faces."""
        started_s = time.monotonic()
        read = searched = with_face = cuts = 0
        # An absolute path, so that a file called `pattern` or `0` stays a file.
        with open_source(str(self._video.resolve())) as source:
            info, shots = source.info, CutFinder()
            wanted = _Sampler(self._config.fps, self._config.every)
            last_s: float | None = None
            for frame in source:
                read += 1
                cut = shots.is_cut(frame.image)
                cuts += cut
                if cut:
                    self._forget()
                if wanted(frame.pts_s):
                    if last_s is not None and frame.pts_s - last_s > _FOLLOW_GAP_S:
                        self._forget()
                    last_s = frame.pts_s
                    searched += 1
                    with_face += self._take(frame)
                if on_progress:
                    on_progress(ExtractProgress(info.name, read, info.frames, len(self._writer)))
        if not self._faces:
            _log.warning("%s gives no face: found in %d of %d frames, usable in none", self._video, with_face, searched)
        record = SourceRecord(info.name, file_sha256(self._video), round(float(info.fps), 6), read)
        self._writer.add_source(record)
        seconds = round(time.monotonic() - started_s, 3)
        left_out = dict(sorted(self._left_out.items()))
        return SourceReport(info.name, read, searched, with_face, self._faces, left_out, cuts, seconds)

    def _forget(self) -> None:
        self._finder.reset()
        self._tracks.clear()

    def _take(self, frame: Frame) -> bool:
        """Store the usable faces of one frame; whether any face was found."""
        faces = self._finder.find(frame)
        for face in faces[: self._config.max_faces]:
            pose = _pose(face)
            reason = self._why_not(face, pose, frame)
            if reason or pose is None:
                self._left_out[reason or "implausible"] += 1
            else:
                self._store(face, pose, frame)
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

    def _store(self, face: Face, pose: HeadPose, frame: Frame) -> None:
        geometry = self._writer.stored_geometry
        crop = align(frame.image, face, geometry)
        mesh = _to_crop(face.landmarks[:468], crop)
        self._writer.add(
            crop.image,
            mesh,
            source=self._number,
            frame_index=frame.index,
            pts_s=frame.pts_s,
            track=self._track(face.track_id),
            score=face.score,
            sharpness=sharpness(crop, geometry, mesh),
            native_px=face_height_px(face.landmarks),
            yaw=pose.yaw,
            pitch=pose.pitch,
            roll=pose.roll,
        )
        self._faces += 1

    def _track(self, finder_id: int) -> int:
        """The number of a track in the set: one for each face in each shot."""
        if finder_id not in self._tracks:
            self._tracks[finder_id] = self.next_track
            self.next_track += 1
        return self._tracks[finder_id]


class _Sampler:
    """Picks frames at a lower rate. Presentation times in, yes or no out."""

    def __init__(self, fps: float | None, every: int) -> None:
        self._fps, self._every = fps, every
        self._start_s: float | None = None
        self._slot = -1
        self._count = 0

    def __call__(self, pts_s: float) -> bool:
        if self._fps is not None:
            if self._start_s is None:
                self._start_s = pts_s
            # Time is cut into slots; the first frame in each is wanted.
            slot = math.floor((pts_s - self._start_s + _TICK_S) * self._fps)
            if slot <= self._slot:
                return False
            self._slot = slot
        self._count += 1
        return (self._count - 1) % self._every == 0


def _pose(face: Face) -> HeadPose | None:
    try:
        return head_pose(face.landmarks)
    except ValueError:
        return None


def _to_crop(landmarks: Points, crop: Crop) -> Points:
    """The mesh in the pixels of the crop; z grows by the same factor as x and y."""
    matrix = invert(crop.crop_to_frame)
    depth = landmarks[:, 2] * math.hypot(matrix[0, 0], matrix[1, 0])
    return np.column_stack([transform(matrix, landmarks), depth]).astype(np.float32)

"""Cuts our crop out of another program's crop. A picture with its facts in, a mesh and a crop of our geometry out.

Note [What a foreign crop becomes]
    A crop of another program is a photograph with a face in it, no more. Its 68 landmarks say where; what they are
    worth nobody knows, and our rooms need a mesh. So the mesh network fits its mesh where the landmarks lie, as it does
    in a video; the mesh, not the landmarks, says how the crop is cut, so that one geometry holds for all sets. A face
    is refused when the network sees none there, when its mesh lies elsewhere than the landmarks, and when it is no
    head. Without landmarks the face nearest to the middle is taken.

    Crops are cut closer than ours: DeepFaceLab's full_face shows 1.60 of the canonical square, its whole_face 2.13, and
    our `full` 1.60 and `whole` 2.2, both plus a quarter for augmentation to move in. What lies beyond their edge is not
    known; the pixels of the edge are repeated there, as training does where it looks beyond a stored crop, and the
    share of the crop proper that is made up like this is reported. Unless one is asked for, `full` is taken for
    pictures that show less than INSIDE of `whole`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import CropGeometry, cut, fit_similarity, frame_to_crop, transform
from realtime.detect import FaceFinder
from realtime.face_mesh import FaceMesh
from realtime.frame import Crop, Frame, ImageU8, Matrix, Points
from realtime.landmarks import ibug68
from realtime.region import Region, region_around, region_of_mesh
from training.foreign import Facts, plausible
from training.looks import face_height_px
from training.pose import HeadPose, head_pose

INSIDE = 0.85
_POINTS = 468
_PRESENCE = 0.5
_MAX_MISFIT = 0.25
"""As in training.extract."""
_ELSEWHERE = 0.15
"""Mean distance of brows, eyes, nose and lips from the landmarks of the file, in face heights. Networks differ by 0.03
to 0.05 in one face."""
_FOREHEAD = 0.3
"""68 landmarks end at the brows: their box is so much higher with the forehead."""
_ROOM = 0.25
"""Room added on each side before a face is searched, in sides of the picture: detectors miss faces that fill it."""
_INNER = slice(17, 68)


@dataclass(frozen=True, slots=True, eq=False)
class Realigned:
    """One foreign face as our sets hold it."""

    crop: Crop
    """(P, P, 3) BGR, what the wanted geometry shows with its margin."""
    mesh: Points
    """(468, 3) float32 in the pixels of the crop."""
    score: float
    """Presence, [0, 1]."""
    pose: HeadPose
    """In the source, as far as the file tells how the crop was turned."""
    native_px: float
    """Height of the face in pixels of the source; of the crop where nothing tells its scale."""
    box: NDArray[np.float64] | None
    """(4,) of the mesh in the source: left, top, right, bottom; None where nothing tells the place."""
    made_up: float
    """Share of the crop without its margin that lies beyond the edge of the foreign picture, [0, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A mesh in a foreign picture."""

    mesh: Points
    """(468, 3) in pixels of the picture."""
    score: float


class MeshSeeker:
    """Finds the mesh in foreign crops. Not thread-safe; a context manager."""

    def __init__(self) -> None:
        """Loads the networks. Raises ModelError when they cannot be used."""
        self._mesh = FaceMesh()
        self._finder = FaceFinder(4, static=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finder.close()

    def find(self, image: ImageU8, facts: Facts) -> Found | str:
        """The mesh of the face that the file speaks of, or why there is none."""
        if facts.landmarks is None:
            found = self._search(image)
            return found if found and _is_head(found.mesh) else "no face found"
        found = self._fit(image, _region_of_68(facts.landmarks))
        if not found:
            return "no face found"
        if not _is_head(found.mesh):
            return "implausible"
        apart = np.linalg.norm(ibug68(found.mesh)[_INNER] - facts.landmarks[_INNER], axis=1).mean()
        return found if apart < _ELSEWHERE * face_height_px(found.mesh) else "landmarks elsewhere"

    def _fit(self, image: ImageU8, region: Region) -> Found | None:
        """Fit twice: from its own box the mesh lies closer than from that of somebody else's landmarks."""
        for _ in range(2):
            if not 4 < region.side < 16 * max(image.shape[:2]):
                return None
            score, mesh = self._mesh.fit(image, region)
            if score <= _PRESENCE or not np.isfinite(mesh).all():
                return None
            region = region_of_mesh(mesh)
        return Found(mesh[:_POINTS], score)

    def _search(self, image: ImageU8) -> Found | None:
        height, width = image.shape[:2]
        room = round(_ROOM * max(height, width))
        wide = cv2.copyMakeBorder(image, room, room, room, room, cv2.BORDER_REPLICATE)
        faces = self._finder.find(Frame(np.asarray(wide, np.uint8), 0, 0.0))
        if not faces:
            return None
        middle = np.array([width / 2 + room, height / 2 + room])
        face = min(faces, key=lambda each: float(np.linalg.norm(each.landmarks[:, :2].mean(axis=0) - middle)))
        mesh = face.landmarks[:_POINTS].copy()
        mesh[:, :2] -= room
        return Found(mesh, face.score)


def realign(image: ImageU8, facts: Facts, found: Found, geometry: CropGeometry, margin: float) -> Realigned:
    """Cut the face as `geometry` wants it, `margin` times as wide. Raises ValueError for a degenerate mesh."""
    stored = geometry.widened(margin)
    matrix = frame_to_crop(found.mesh, stored)
    crop = cut(image, matrix, stored.size, border=cv2.BORDER_REPLICATE)
    mesh = _moved(found.mesh, matrix)
    to_source = _to_source(facts, found)
    in_source = found.mesh if to_source is None else _moved(found.mesh, to_source)
    box = None if to_source is None else np.concatenate([in_source[:, :2].min(axis=0), in_source[:, :2].max(axis=0)])
    return Realigned(
        crop,
        mesh,
        found.score,
        head_pose(in_source),
        face_height_px(in_source),
        None if box is None else box.astype(np.float64),
        1 - inside(image, found.mesh, geometry),
    )


def inside(image: ImageU8, mesh: Points, geometry: CropGeometry) -> float:
    """Share of what `geometry` shows of the face with this mesh that lies inside the picture, [0, 1]."""
    height, width = image.shape[:2]
    matrix, size = frame_to_crop(mesh, geometry), geometry.size
    known = transform(matrix, np.array([[0, 0], [width, 0], [width, height], [0, height]])).astype(np.float32)
    crop = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    shared, _ = cv2.intersectConvexConvex(known, crop)
    return min(max(float(shared) / size**2, 0.0), 1.0)


def _to_source(facts: Facts, found: Found) -> Matrix | None:
    matrix = facts.crop_to_source()
    if matrix is None and facts.source_landmarks is not None:
        try:  # faceswap states no landmarks in the crop: ours take their place
            matrix = fit_similarity(ibug68(found.mesh), facts.source_landmarks)
        except ValueError:
            return None
    return matrix if matrix is not None and plausible(matrix) else None


def _moved(mesh: Points, matrix: Matrix) -> Points:
    """The mesh through a similarity; depth grows by the same factor."""
    depth = mesh[:, 2] * math.hypot(matrix[0, 0], matrix[1, 0])
    return np.column_stack([transform(matrix, mesh), depth]).astype(np.float32)


def _region_of_68(landmarks: NDArray[np.float32]) -> Region:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    right, left = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    low[1] -= _FOREHEAD * (high[1] - low[1])
    return region_around(np.concatenate([low, high]), right, left)


def _is_head(mesh: Points) -> bool:
    try:
        return head_pose(mesh).misfit <= _MAX_MISFIT and face_height_px(mesh) > 0
    except ValueError:
        return False

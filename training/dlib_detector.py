"""Finds faces with dlib's detector, to compare. Frame in, list[Face] out.

Histograms of oriented gradients, a linear classifier for five directions of the head and non-maximum suppression
(Dalal and Triggs 2005; King 2015): what face swaps were made with before there were networks for it. It sees upright
faces up to half a turn to the side. The mesh is fitted in the box it finds by the network that the live loop uses.
`pip install dlib-bin` brings it; nothing else is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from realtime.errors import UsageError
from realtime.face_mesh import FaceMesh
from realtime.frame import Face, Frame, ImageU8
from realtime.region import Region, box_overlap, region_of_mesh

_ENLARGED = 1
"""The picture is doubled once: faces from 40 px are found instead of 80, at four times the time."""
_WIDER = 1.5
"""The mesh network looks at so many sides of dlib's box, which reaches from the brows to the chin."""
_PRESENCE = 0.5
_SAME_FACE, _SAME_PLACE = 0.5, 0.25
"""Intersection over union of two boxes in one frame that show one face, and in two frames that follow each other."""


@dataclass(frozen=True, slots=True)
class _Sight:
    face: Face
    size: float


class DlibFinder:
    """Finds up to `max_faces` faces in each frame, the one followed longest first. Not thread-safe."""

    def __init__(self, max_faces: int = 1) -> None:
        """Raises UsageError when dlib is not installed, ModelError when the mesh network cannot be used."""
        try:
            import dlib
        except ImportError as error:
            raise UsageError(
                'the detector dlib is not installed; in the folder of liveswap, run: pip install -e ".[dlib]", '
                "or leave out --detector"
            ) from error
        self._detector = dlib.get_frontal_face_detector()
        self._mesh: FaceMesh | None = FaceMesh()
        self._max_faces = max_faces
        self._last: list[Face] = []
        self._next_id = 0

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        self._mesh = None
        self.reset()

    def reset(self) -> None:
        """Forget the faces of the last frame; numbers already given are not given again."""
        self._last = []

    def find(self, frame: Frame) -> list[Face]:
        """The faces in `frame`: the one followed longest first, new ones by size. Raises ValueError after close()."""
        if self._mesh is None:
            raise ValueError("this DlibFinder is closed; open another one")
        image = np.ascontiguousarray(frame.image)
        sights: list[_Sight] = []
        for box in self._detector(image[:, :, ::-1].copy(), _ENLARGED):
            width, height = box.right() - box.left(), box.bottom() - box.top()
            side = _WIDER * max(width, height)
            middle = Region(box.left() + width / 2, box.top() + height / 2, side)
            face = self._fit(image, middle, self._mesh)
            if face and not any(_overlap(face, other.face) > _SAME_FACE for other in sights):
                sights.append(_Sight(face, side))
        sights.sort(key=lambda sight: -sight.size)
        self._last = self._number([sight.face for sight in sights])[: self._max_faces]
        return self._last

    @staticmethod
    def _fit(image: ImageU8, region: Region, mesh: FaceMesh) -> Face | None:
        """The mesh after a second look, from the place where the first one has found it: dlib's boxes know no turn."""
        for _ in range(2):
            presence, landmarks = mesh.fit(image, region)
            if presence <= _PRESENCE or not np.isfinite(landmarks).all():
                return None
            region = region_of_mesh(landmarks)
        return Face(landmarks, presence)

    def _number(self, faces: list[Face]) -> list[Face]:
        """The faces with the number of the face that was there in the last frame, or else a new one."""
        before, numbered = list(self._last), []
        for face in faces:
            nearest = max(before, key=lambda other: _overlap(face, other), default=None)
            if nearest and _overlap(face, nearest) > _SAME_PLACE:
                before.remove(nearest)
                number = nearest.track_id
            else:
                number, self._next_id = self._next_id, self._next_id + 1
            numbered.append(Face(face.landmarks, face.score, number))
        return sorted(numbered, key=lambda face: face.track_id)


def _overlap(a: Face, b: Face) -> float:
    return float(box_overlap(np.array(a.box), np.array(b.box)[None])[0])

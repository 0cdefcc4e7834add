"""The generic face: 468 vertices in the order of MediaPipe's Face Mesh, and which of them are what. Data only.

Note [Head space]
    Centimetres; x to the right of the image, y down, z away from the camera. The origin lies between the eyes and the
    face looks towards -z. The person's own right eye is therefore at negative x.

The mesh comes from a cartoon that no person sat for: benchmarks/derive_mesh.py shows how.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACE_COUNT = 468


def _stored(name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(Path(__file__).with_name(name), allow_pickle=False)
    return array


VERTICES: NDArray[np.float64] = _stored("face_vertices.npy") / 1000.0
"""(468, 3) head space, see Note [Head space]; stored in 10 micrometres."""
TRIANGLES: NDArray[np.int64] = _stored("face_triangles.npy").astype(np.int64)
"""(852, 3) facing the camera; eyes and mouth are holes."""
MIRROR: NDArray[np.int64] = _stored("face_mirror.npy").astype(np.int64)
"""(468,) the vertex on the other side of the face."""


def mirrored(indices: Iterable[int]) -> list[int]:
    """The same places on the other side of the face."""
    return [int(MIRROR[index]) for index in indices]


# Rows run from the person's right (negative x) to the left, or from the outer corner of the right eye inwards.
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
OVAL += [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
"""36 vertices round the face, from the forehead over the person's left cheek to the chin and back."""
UPPER_LIP_OUTER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
UPPER_LIP_INNER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_LIP_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
LOWER_LIP_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
LIPS = UPPER_LIP_OUTER + LOWER_LIP_OUTER[-2:0:-1]
"""The outline of both lips."""
EYE_UPPER = [33, 246, 161, 160, 159, 158, 157, 173, 133]
EYE_LOWER = [33, 7, 163, 144, 145, 153, 154, 155, 133]
EYE = EYE_UPPER + EYE_LOWER[-2:0:-1]
"""The rim of the person's right eye; mirrored(EYE) is the left one."""
BROW_UPPER = [70, 63, 105, 66, 107]
BROW_LOWER = [46, 53, 52, 65, 55]
BROW = BROW_UPPER + BROW_LOWER

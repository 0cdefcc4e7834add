"""Cuts a face out as sets hold it. A picture and a Face in; the crop and the mesh in its pixels out."""

from __future__ import annotations

import math

import numpy as np

from realtime.align import CropGeometry, align, invert, transform
from realtime.frame import Crop, Face, ImageU8, Points


def cut_face(image: ImageU8, face: Face, geometry: CropGeometry) -> tuple[Crop, Points]:
    """The crop that `geometry` shows of a face in a (H, W, 3) BGR image, and its (468, 3) mesh in pixels of the crop.

    Depth grows by the same factor as x and y. Raises ValueError for a mesh that cannot be aligned.
    """
    crop = align(image, face, geometry)
    matrix, landmarks = invert(crop.crop_to_frame), face.landmarks[:468]
    depth = landmarks[:, 2] * math.hypot(matrix[0, 0], matrix[1, 0])
    return crop, np.column_stack([transform(matrix, landmarks), depth]).astype(np.float32)

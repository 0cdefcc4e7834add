"""Measures what one face shows. Stored crop with its mesh in, expression, light and what hides it out.

Pose and sharpness have rooms of their own: training.pose, training.looks. All of it takes about 2 ms a face of 320
pixels on one core.
"""

from __future__ import annotations

from dataclasses import dataclass

from realtime.align import CropGeometry
from realtime.frame import ImageU8, Points
from training.cover import read_cover
from training.expression import read_expression
from training.light import read_light
from training.pose import head_pose


@dataclass(frozen=True, slots=True)
class Measures:
    """Plain numbers about one face; lengths in face sizes, see Note [Expression] and Note [Light of a face]."""

    mouth: float
    """Opening between the lips: 0 shut, about 0.8 wide open."""
    width: float
    """Distance of the corners of the mouth: small when rounded, large in a smile."""
    eye_right: float
    eye_left: float
    """Opening relative to the width of the eye; the person's own right and left."""
    brows: float
    """Height of the brows above the eyes."""
    light: tuple[float, float, float, float]
    """Level in stops, and how much of it comes from the right of the image, from below and from the front."""
    warmth: float
    """Stops of red over blue of the skin."""
    covered: float
    """Estimated share of the face that something hides, [0, 1], see Note [Cover]."""

    @property
    def eyes(self) -> float:
        """Mean opening of both eyes."""
        return (self.eye_right + self.eye_left) / 2


def measure(crop: ImageU8, mesh: Points, geometry: CropGeometry) -> Measures:
    """Measure one face: (P, P, 3) BGR `crop` as `geometry` shows it, (468 or more, 3) `mesh` in its pixels.

    The result depends on nothing else. Raises ValueError for a crop of another size or a mesh that is no head.
    """
    if crop.shape != (geometry.size, geometry.size, 3):
        raise ValueError(f"expected a {geometry.size} px crop, got {crop.shape}")
    pose = head_pose(mesh)
    expression, light = read_expression(mesh, pose), read_light(crop, mesh)
    return Measures(
        mouth=expression.mouth,
        width=expression.width,
        eye_right=expression.eye_right,
        eye_left=expression.eye_left,
        brows=expression.brows,
        light=(light.level, light.right, light.down, light.front),
        warmth=light.warmth,
        covered=read_cover(crop, mesh),
    )

"""Grows hair. Identity and head shape in, a shell over the skull and some loose strands out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.actors import atlas
from realtime.actors.identity import Identity
from realtime.actors.numerics import Floats, gaussian, smoothstep, value_noise
from realtime.actors.parts import Piece
from realtime.actors.topology import RING_VERTICES, SKULL_CENTRE, SKULL_RADII, grid_faces

COLUMNS = 85
"""Round the head, from back over the front to back."""
STRANDS = 200

# The hairline: elevation in degrees by azimuth in degrees, 0 in front, 180 at the back.
_SHORT_HAIRLINE = (
    [0, 22, 36, 46, 56, 66, 74, 82, 90, 100, 112, 125, 180],
    [35, 36, 38, 33, 22, 8, -8, -15, -2, 5, 0, -38, -44],
)
_LONG_HAIRLINE = ([0, 25, 40, 50, 58, 66, 80, 180], [36, 35, 31, 22, 8, -4, -14, -30])


@dataclass(frozen=True, slots=True, eq=False)
class Strands:
    """Single hairs that stand off the shell."""

    points: NDArray[np.float64]
    """(200, 5, 3) head space, cm."""
    normals: NDArray[np.float64]
    """(200, 3) of the shell below."""
    shades: NDArray[np.int64]
    """(200,) 0 dark to 3 light."""


@dataclass(frozen=True, slots=True, eq=False)
class Hair:
    """A head of hair."""

    shell: Piece
    tangents: Floats
    """(N, 3) unit vectors along the hair."""
    strands: Strands


def grow_hair(identity: Identity, rng: np.random.Generator, control: Floats) -> Hair:
    """Hair for the (736, 3) control mesh of a head.

    The shell is star-shaped round the centre of the skull, rows from the crown to the hairline; long hair goes on as
    two curtains down to the shoulders.
    """
    long = identity.hair_style == "long"
    rows = 27 if long else 16
    azimuth = np.linspace(-np.pi, np.pi, COLUMNS)
    azimuth_deg = np.rad2deg(np.abs(azimuth))
    down = np.linspace(0, 1, rows)[:, None]  # 0 at the crown, 1 at the tips
    to_hairline = np.clip(down * (1 + long), 0, 1)

    def wobble(every: int, amount: float) -> Floats:
        knots = azimuth[::every]
        return np.interp(azimuth, knots, rng.normal(0, amount, len(knots)))

    hairline = np.interp(azimuth_deg, *(_LONG_HAIRLINE if long else _SHORT_HAIRLINE))
    elevation_deg = 90 + (hairline + wobble(2, 1.2) - 90) * to_hairline
    elevation = np.deg2rad(elevation_deg)
    curtain = np.clip(down * 2 - 1, 0, 1) * np.interp(azimuth_deg, [54, 60, 66, 74], [0, 0.2, 0.8, 1])
    curtain = curtain * (1 + 0.04 * wobble(3, 1)) * long

    crown: float | Floats = 1.5 if long else 0.75 + 0.9 * smoothstep(10, 60, elevation_deg)
    quiff = identity.quiff * gaussian(azimuth_deg, 50)
    thickness = crown + quiff * smoothstep(15, 50, elevation_deg) * smoothstep(90, 65, elevation_deg)
    thin_in_front = smoothstep(64, 50, azimuth_deg) * (0.98 - 0.98 * smoothstep(1.0, 0.62, to_hairline))
    thickness = thickness * (1 - thin_in_front)
    clumps = value_noise(rng, rows, COLUMNS, (1.5, 26), 2)
    clumps[:, -1] = clumps[:, 0]
    groove = gaussian((azimuth - identity.parting) * np.cos(elevation), 0.09) * smoothstep(1, 0.6, to_hairline)
    ahead = azimuth_deg < 90
    thickness = thickness + 0.22 * clumps * np.clip(thickness, 0, 1) - 0.5 * long * groove * ahead
    shell = _shell(azimuth, elevation, thickness, control)
    shell = shell + _fall(azimuth, azimuth_deg, curtain)

    side = np.tanh((azimuth - identity.parting) / 0.2) * smoothstep(150, 60, azimuth_deg) * identity.sweep
    tangents = np.gradient(shell, axis=0) * (rows - 1)
    tangents += (side * 1.6 * to_hairline**0.6)[..., None] * np.gradient(shell, axis=1) / (azimuth[1] - azimuth[0])
    tangents /= np.linalg.norm(tangents, axis=-1, keepdims=True) + 1e-6
    strands = _loose_strands(rng, shell, tangents, long)
    uv = atlas.HAIR.uv(((azimuth - side * to_hairline**1.6) / 2 / np.pi + 0.5) % 1, down)
    piece = Piece(shell.reshape(-1, 3), grid_faces(rows, COLUMNS), uv)
    return Hair(piece, tangents.reshape(-1, 3), strands)


def _shell(azimuth: Floats, elevation: Floats, thickness: Floats, control: Floats) -> Floats:
    """(rows, COLUMNS, 3) points `thickness` above the skin below them."""
    direction = np.stack(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)], -1
    )
    from_centre = control[: RING_VERTICES.stop] - SKULL_CENTRE
    radius = np.linalg.norm(from_centre, axis=1, keepdims=True)
    from_centre = from_centre / radius
    nearness = np.exp(180 * (direction.reshape(-1, 3) @ from_centre.T - 1))
    beyond_skull = np.linalg.norm(radius * from_centre / SKULL_RADII, axis=1)
    relative = (nearness @ beyond_skull + 0.05) / (nearness.sum(1) + 0.05)
    skull = relative.reshape(elevation.shape) / np.linalg.norm(direction / SKULL_RADII, axis=-1)
    shell: Floats = SKULL_CENTRE + direction * (skull + 0.12 + thickness)[..., None]
    return shell


def _fall(azimuth: Floats, azimuth_deg: Floats, curtain: Floats) -> Floats:
    """How far the curtains hang away from the skull; zero for short hair."""
    wave = 0.25 * np.sin(7 * curtain) * np.sin(azimuth) + 0.3 * np.sin(azimuth * 21 + 6 * curtain)
    x = np.sin(azimuth) * (1.4 * curtain - 1.3 * curtain**2) + wave * curtain
    z = -2.4 * curtain * smoothstep(110, 65, azimuth_deg) - 0.3 * np.cos(azimuth) * curtain
    return np.stack([x, 19 * curtain, z], -1)


def _loose_strands(rng: np.random.Generator, shell: Floats, tangents: Floats, long: bool) -> Strands:
    """Most of them near the hairline in front, the others anywhere."""
    middle, spread = COLUMNS // 2, 13 + long
    last_row = shell.shape[0] // (1 + long)
    in_front = rng.random(STRANDS) < 0.8
    column = np.where(
        in_front, rng.integers(middle - spread, middle + spread + 1, STRANDS), rng.integers(17, COLUMNS - 17, STRANDS)
    )
    at_hairline = rng.random(STRANDS) < 0.8
    row = np.where(at_hairline, last_row - 1 - rng.integers(0, 3, STRANDS), rng.integers(2, last_row - 3, STRANDS))
    root = shell[row, column]
    normals = root - SKULL_CENTRE
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    along = np.linspace(0, 1, 5)[None, :, None]
    length = rng.uniform(0.6, 1.6, (STRANDS, 1, 1)) * (1 + 0.6 * long)
    direction = (tangents[row, column] + rng.normal(0, 0.06, (STRANDS, 3)))[:, None]
    lift = normals[:, None] * (0.25 + along - 0.6 * along**2) * rng.uniform(0.03, 0.15, (STRANDS, 1, 1))
    points = root[:, None] - along * length * direction + lift
    points = points + rng.normal(0, 0.1, (STRANDS, 1, 3))
    return Strands(points, normals, rng.integers(0, 4, STRANDS))

"""The parts of a body that are not the face. Sizes in, textured triangles out; see Note [Head space]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from realtime.actors import atlas
from realtime.actors.numerics import Floats, Ints, gaussian, points_3d, smoothstep
from realtime.actors.paint import BODY_ANGLE, BODY_HEIGHT_CM, BODY_TOP_CM
from realtime.actors.skin import EAR_PX, MIDDLE_PX
from realtime.actors.topology import grid_faces


class Piece(NamedTuple):
    """Some triangles."""

    vertices: Floats
    """(N, 3) head space, cm."""
    faces: Ints
    """(F, 3)."""
    uv: Floats
    """(N, 2) atlas pixels."""


Solid = tuple[Floats, Ints]
"""Vertices and faces."""


def polar_grid(radii: Floats, spokes: int) -> tuple[Floats, Floats]:
    """Radius and angle, (len(radii), spokes) each."""
    radius, angle = np.meshgrid(radii, np.linspace(0, 2 * np.pi, spokes + 1)[:-1], indexing="ij")
    return radius, angle


def tube(path: ArrayLike, radius: ArrayLike, sides: int = 8, closed: bool = False) -> Solid:
    """A tube along (N, 3) points."""
    centre = np.asarray(path, float)
    along = np.roll(centre, -1, 0) - np.roll(centre, 1, 0) if closed else np.gradient(centre, axis=0)
    across = np.cross(along, [0.3, 0.2, 1.0])
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(along, across)
    up = up / np.linalg.norm(up, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, sides + 1)[:-1, None]
    circle = np.cos(angle) * across[:, None] + np.sin(angle) * up[:, None]
    rings = centre[:, None] + np.broadcast_to(radius, len(centre))[:, None, None] * circle
    if closed:
        rings = np.concatenate([rings, rings[:1]])
    return rings.reshape(-1, 3), grid_faces(len(rings), sides, True)


def merge(solids: Sequence[Solid]) -> Solid:
    """Several solids as one."""
    first = np.cumsum([0] + [len(vertices) for vertices, _ in solids])
    faces = [solid_faces + offset for (_, solid_faces), offset in zip(solids, first, strict=False)]
    return np.concatenate([vertices for vertices, _ in solids]), np.concatenate(faces)


EAR_RINGS, EAR_SPOKES = 12, 28


def ears(face: Floats) -> tuple[Piece, Floats]:
    """Both ears of a (468+, 3) face, and (N,) how much light reaches each vertex between the folds."""
    radius, angle = polar_grid(np.linspace(0, 1, EAR_RINGS), EAR_SPOKES)
    cos, sin = np.cos(angle), np.sin(angle)
    helix = smoothstep(-0.6, 0.4, cos) * (0.42 * gaussian(radius - 0.84, 0.12) + 0.26 * gaussian(radius - 0.5, 0.15))
    concha = 0.25 * gaussian(radius, 0.35)
    tragus = 0.22 * gaussian(cos + 1, 0.5) * gaussian(radius - 0.5, 0.3)
    relief = 0.1 + helix - 0.3 * smoothstep(0.95, 1, radius) - concha + tragus
    back, up = radius * cos * (1.55 + 0.35 * sin), radius * sin * 2.9
    temple_x, temple_z = abs(face[234, 0]), face[234, 2]
    vertices, uv = [], []
    for side in (-1, 1):
        x = side * (temple_x - 0.2 + 0.42 * back + 0.9 * relief)
        y = 2.7 - 0.1 * back - 0.99 * up
        z = temple_z + 1.5 + 0.9 * back + 0.12 * up - 0.42 * relief
        vertices.append(points_3d(x, y, z))
        u = MIDDLE_PX + side * (EAR_PX + 20 * radius * cos)
        uv.append(np.stack([u, EAR_PX - 40 * radius * sin], -1).reshape(-1, 2))
    faces = grid_faces(EAR_RINGS, EAR_SPOKES, True)
    open_sky = 0.4 + 0.6 * smoothstep(0.2, 0.8, radius) - 0.25 * gaussian(radius - 0.66, 0.07)
    both = np.concatenate([faces, faces + EAR_RINGS * EAR_SPOKES])
    return Piece(np.concatenate(vertices), both, np.concatenate(uv)), np.tile(open_sky.ravel(), 2)


def torso(build: float) -> Piece:
    """Neck, shoulders and chest; `build` scales their width."""
    heights = [2.5, 5, 8, 10, 12, 14, 15.5, 16.5, 17.3, 18, 18.8, 19.8, 21, 22.5, 24.5, 27, 31, 36, 42]
    y = np.array(heights)[:, None]
    angle = np.linspace(-np.pi, np.pi, 49)
    across = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.8
    centre_z = np.interp(y, [6.5, 12, 17, 24], [9.8, 10.6, 11.6, 12])
    half_width = build * np.interp(
        y,
        [2.5, 8, 14, 16, 17.5, 19, 21, 24, 30, 42],
        [5.3, 5.2, 5.5, 6.2, 8.2, 12, 15.8, 18.6, 20, 21],
    )
    half_depth = build * np.interp(y, [2.5, 8, 14, 17, 20, 24, 30, 42], [5.6, 5.5, 5.7, 6.2, 6.8, 8.3, 9.8, 10.5])
    larynx = 0.35 * gaussian(angle, 0.28) * gaussian(y - 17.2, 0.9)
    drop = 1.4 * smoothstep(17, 21, y) * np.abs(across) ** 2.2
    vertices = points_3d(half_width * across, y + drop, centre_z - half_depth * np.cos(angle) - larynx)
    uv = atlas.BODY.uv(angle / BODY_ANGLE + 0.5, (y - BODY_TOP_CM) / BODY_HEIGHT_CM)
    return Piece(vertices, grid_faces(len(y), 49), uv)


def _squarish(wave: Floats, power: float) -> Floats:
    """Turns the sine and cosine of a circle into those of a rounded rectangle."""
    return np.sign(wave) * np.abs(wave) ** power


def glasses(eye_centres: Sequence[Floats], face: Floats) -> Piece:
    """Bridge, rims and temples for a (468+, 3) face."""
    turn = np.linspace(0, 2 * np.pi, 33)[:-1]
    z = face[[168, 6], 2].mean() - 0.75
    solids = [tube([[-0.85, 0.7, z], [0, 0.45, z - 0.15], [0.85, 0.7, z]], 0.16)]
    for side, (eye_x, eye_y, _) in zip((-1, 1), eye_centres, strict=True):
        x = eye_x + side * 0.15 + 2.55 * _squarish(np.cos(turn), 0.7)
        y = eye_y + 0.35 + 1.9 * _squarish(np.sin(turn), 0.7)
        solids.append(tube(points_3d(x, y, z + 0.02 * x**2), 0.17, 6, True))
        temple = [[side * 5.9, eye_y - 0.4, z + 0.75], [side * 7.3, eye_y - 0.3, 3.0], [side * 8.0, eye_y, 9.5]]
        solids.append(tube(temple, 0.17))
    vertices, faces = merge(solids)
    return Piece(vertices, faces, atlas.FRAME.uv(np.full(len(vertices), 0.5), 0.5))


def _finger(path: Floats, radius: Floats) -> Solid:
    """A tube with rounded ends."""
    closed = np.concatenate([2 * path[:1] - path[1:2], path, path[-1:] + (path[-1:] - path[-2:-1]) * 0.12])
    return tube(closed, np.r_[0.05, radius, 0.05], 10)


def hand() -> Piece:
    """A right hand with spread fingers round the origin, its palm towards +z."""
    t = np.linspace(0, 1, 7)
    forearm = _finger(points_3d(0, 4 + 16 * t, 0.4 * t), np.linspace(2.7, 3.4, 7))
    thumb = _finger(points_3d(-3.2 - 3.6 * t, 2.6 - 5 * t, -0.8 * np.sin(2 * t)), np.linspace(1.4, 0.7, 7))
    solids = [forearm, thumb]
    taper = np.array([1.0, 0.94, 0.87, 0.9, 0.83, 0.8, 0.62])
    for x, lean, length in ((-3.1, -1.4, 6.3), (-1.1, -0.5, 7.6), (1.0, 0.3, 7.3), (2.9, 1.2, 5.8)):
        solids.append(_finger(points_3d(x + lean * t, -3 - length * t, 0.9 * t**2), taper))
    polar, turn = polar_grid(np.linspace(0, np.pi, 13), 20)
    across = 4.4 * _squarish(np.sin(polar), 0.75) * _squarish(np.cos(turn), 0.75)
    down = 1.2 - 5.6 * _squarish(np.cos(polar), 0.75)
    palm = points_3d(across, down, 1.5 * np.sin(polar) * np.sin(turn))
    solids.append((palm, grid_faces(13, 20, True)[:, ::-1]))
    vertices, faces = merge(solids)
    return Piece(vertices, faces, atlas.HAND.uv(vertices[:, 0] / 14 + 0.5, vertices[:, 1] / 20 + 0.5))

"""Which vertices make a head. (468, 3) face vertices in; (736, 3) control vertices or the (2862, 3) drawn skin out.

Note [Head mesh]
    The 468 vertices of the face come first everywhere. Behind them follow skull rings from the oval to the back of the
    head, inner lips and lid rims (the *control* mesh), and then one curved midpoint per edge (the *drawn* mesh). No
    step moves an earlier vertex, so the landmarks of a rendering are exact.
"""

from __future__ import annotations

import numpy as np

from realtime.actors.mesh import (
    EYE_LOWER,
    EYE_UPPER,
    FACE_COUNT,
    LOWER_LIP_INNER,
    OVAL,
    TRIANGLES,
    UPPER_LIP_INNER,
    VERTICES,
    mirrored,
)
from realtime.actors.numerics import Floats, Ints, cross, smoothstep

SKULL_CENTRE = np.array([0, -1.5, 9.2])
SKULL_RADII = np.array([7.7, 10.2, 9.7])
RING_COUNT = 6
RING_VERTICES = range(FACE_COUNT, FACE_COUNT + 36 * RING_COUNT)
"""Skull rings in the control mesh, the one next to the oval first."""
INNER_UPPER_LIP = range(684, 695)
INNER_LOWER_LIP = range(695, 704)
RIGHT_LID_RIM = range(704, 720)
LEFT_LID_RIM = range(720, 736)


def grid_faces(rows: int, columns: int, wrap: bool = False) -> Ints:
    """(N, 3) triangles of a grid of vertices counted row by row; `wrap` joins the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    left, right = (index, np.roll(index, -1, 1)) if wrap else (index[:, :-1], index[:, 1:])
    halves = ((left[:-1], right[:-1], left[1:]), (right[:-1], right[1:], left[1:]))
    return np.concatenate([np.stack([corner.ravel() for corner in half], 1) for half in halves])


def incidence(faces: Ints, count: int) -> Ints:
    """(count, k) the faces around each vertex, padded with len(faces)."""
    corners = faces.ravel()
    order = np.argsort(corners, kind="stable")
    valence = np.bincount(corners, minlength=count)
    table = np.full((count, valence.max()), len(faces), np.int32)
    slot = np.arange(len(corners)) - np.repeat(np.cumsum(valence) - valence, valence)
    table[corners[order], slot] = order // 3
    return table


def vertex_normals(vertices: Floats, faces: Ints, around: Ints) -> Floats:
    """(N, 3) unit normals, area-weighted; `around` = incidence(faces, N)."""
    origin = vertices[faces[:, 0]]
    face_normals = cross(vertices[faces[:, 1]] - origin, vertices[faces[:, 2]] - origin)
    padded = np.concatenate([face_normals, np.zeros((1, 3), vertices.dtype)])
    normals = padded[around].sum(1)
    unit: Floats = normals / (np.sqrt((normals * normals).sum(1, keepdims=True)) + 1e-9)
    return unit


def control_vertices(face: Floats) -> Floats:
    """(736, 3) from the (468, 3) face: skull rings, inner lips and lid rims follow its shape."""
    from_centre = face[OVAL] - SKULL_CENTRE
    radius = np.linalg.norm(from_centre, axis=1, keepdims=True)
    direction = from_centre / radius
    back = np.array([0, 0.12, 1]) / np.hypot(0.12, 1)
    angle = np.arccos(direction @ back)[:, None]
    rows = [face]
    for way in (0.06, 0.16, 0.3, 0.46, 0.64, 0.84):  # of the way from the oval to the back of the head
        towards = (np.sin((1 - way) * angle) * direction + np.sin(way * angle) * back) / np.sin(angle)
        radii = SKULL_RADII * (1 - smoothstep(0, 0.8, towards[:, 1:2]) * [0.12, 0.15, 0])
        skull = 1 / np.linalg.norm(towards / radii, axis=1, keepdims=True)
        rows.append(SKULL_CENTRE + towards * (radius + (skull - radius) * smoothstep(0, 0.3, way)))
    rows.append(face[UPPER_LIP_INNER] + [0, -0.12, 0.75])
    rows.append(face[LOWER_LIP_INNER[1:-1]] + [0, 0.12, 0.75])
    right_rim = EYE_UPPER + EYE_LOWER[1:-1]
    for rim in (right_rim, mirrored(right_rim)):
        centre = face[rim].mean(0)
        rows.append(centre + (face[rim] - centre) * 0.96 + [0, 0, 0.8])
    return np.concatenate(rows)


def _strip(upper: Ints, lower: Ints, flip: bool) -> list[Ints]:
    """Two triangles between each pair of neighbours of two rows."""
    halves = ((upper[:-1], lower[:-1], upper[1:]), (upper[1:], lower[:-1], lower[1:]))
    return [np.stack(half, 1)[:, :: -1 if flip else 1] for half in halves]


def _control_faces() -> Ints:
    faces: list[Ints] = [TRIANGLES]
    front: Ints = np.array(OVAL)
    for ring in range(RING_COUNT):
        behind = FACE_COUNT + 36 * ring + np.arange(36)
        faces.append(np.stack([front, np.roll(front, -1), behind], 1))
        faces.append(np.stack([np.roll(front, -1), np.roll(behind, -1), behind], 1))
        front = behind
    corner, other_corner = INNER_UPPER_LIP[0], INNER_UPPER_LIP[-1]
    faces += _strip(np.array(UPPER_LIP_INNER), np.array(INNER_UPPER_LIP), False)
    faces += _strip(np.array(LOWER_LIP_INNER), np.array([corner, *INNER_LOWER_LIP, other_corner]), True)
    for upper, lower, rim, left in (
        (EYE_UPPER, EYE_LOWER, RIGHT_LID_RIM, False),
        (mirrored(EYE_UPPER), mirrored(EYE_LOWER), LEFT_LID_RIM, True),
    ):
        faces += _strip(np.array(upper), np.array(rim[:9]), left)
        faces += _strip(np.array(lower), np.array([rim[0], *rim[9:], rim[8]]), not left)
    return np.concatenate(faces)


def _edges_and_drawn_faces() -> tuple[Ints, Ints]:
    pairs = np.sort(CONTROL_FACES[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    edges, edge_of_side = np.unique(pairs, axis=0, return_inverse=True)
    a, b, c = CONTROL_FACES.T
    ab, bc, ca = CONTROL_COUNT + edge_of_side.reshape(-1, 3).T
    quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return edges, np.concatenate([np.stack(quarter, 1) for quarter in quarters])


CONTROL_FACES = _control_faces()
CONTROL_COUNT = LEFT_LID_RIM.stop
CONTROL_INCIDENCE = incidence(CONTROL_FACES, CONTROL_COUNT)
REFERENCE = control_vertices(VERTICES)
"""(736, 3) the generic head."""
EDGES, FACES = _edges_and_drawn_faces()
"""(E, 2) edges of the control mesh; (4 F, 3) faces of the drawn mesh."""
INCIDENCE = incidence(FACES, CONTROL_COUNT + len(EDGES))
_number = np.arange(len(CONTROL_FACES))
IS_SKULL = np.tile((_number >= len(TRIANGLES)) & (_number < len(TRIANGLES) + 72 * RING_COUNT), 4)
"""(4 F,) the drawn faces outside the oval."""


def subdivide(control: Floats, flat: bool = False) -> Floats:
    """(2862, ...) drawn vertices from (736, ...) control values: the same, then a midpoint per edge.

    The midpoints bulge as Phong tessellation has it (Boubekeur and Alexa 2008), so that a coarse cheek looks round;
    `flat` takes plain averages, for values that are not positions.
    """
    first, second = EDGES.T
    middle = (control[first] + control[second]) / 2
    if flat:
        return np.concatenate([control, middle])
    normals = vertex_normals(control, CONTROL_FACES, CONTROL_INCIDENCE)
    step = (control[second] - control[first]) / 8
    rise = normals[first] * (step * normals[first]).sum(1, keepdims=True)
    fall = normals[second] * (step * normals[second]).sum(1, keepdims=True)
    return np.concatenate([control, middle - rise + fall])

"""Poses a body. Actor and Pose in; where every vertex is, and where it faces, out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from realtime.actors.actor import EYE_RADIUS_CM, Actor, Part
from realtime.actors.fields import expression_fields
from realtime.actors.mesh import EYE_LOWER, EYE_UPPER, mirrored
from realtime.actors.numerics import F32, Floats, gaussian, smoothstep
from realtime.actors.pose import (
    NECK_PIVOT,
    Pose,
    body_rotation,
    gaze_rotation,
    head_rotation,
    rotation,
    translation,
)
from realtime.actors.topology import FACES, INCIDENCE, subdivide, vertex_normals

JAW_DEG = 18.0
JAW_HINGE = np.array([0, 3.2, 9.0], np.float32)
_HAND_CM = -11
"""In front of the face."""
_LIDS = (
    (EYE_UPPER, EYE_LOWER),
    (mirrored(EYE_UPPER), mirrored(EYE_LOWER)),
)


class Posed(NamedTuple):
    """A body in one moment."""

    at_rest: F32
    """(V, 3) with its expression, but still in head space."""
    placed: F32
    """(V, 3) camera space: head space of a head at rest, 70 cm in front of the camera."""
    normals: F32
    """(V, 3) unit vectors, camera space."""


def pose_actor(actor: Actor, pose: Pose) -> Posed:
    """Expression, then jaw and eyes, then head and body."""
    vertices, normals = actor.vertices.copy(), actor.normals.copy()
    skin, eyes = actor.slices[Part.SKIN], actor.slices[Part.EYE]
    vertices[skin] = subdivide(_express(actor, pose).astype(np.float32))
    normals[skin] = vertex_normals(vertices[skin], FACES, INCIDENCE)
    _open_mouth(actor, pose, vertices)
    sphere = actor.eye_sphere @ gaze_rotation(pose).T
    vertices[eyes], normals[eyes] = actor.eyeballs(sphere), np.tile(sphere, (2, 1))

    head, body, shift = head_rotation(pose), body_rotation(pose), translation(pose)
    placed = (vertices - NECK_PIVOT) @ head.T + (NECK_PIVOT + shift)
    turned = normals @ head.T
    bent = actor.bent
    weight = actor.body_weight[bent][:, None]
    on_body = (vertices[bent] - NECK_PIVOT) @ body.T + NECK_PIVOT + shift * np.float32(0.6)
    placed[bent] += weight * (on_body - placed[bent])
    turned[bent] += weight * (normals[bent] @ body.T - turned[bent])
    if pose.hand:
        hand = actor.slices[Part.HAND]
        turn = rotation(0, 12, pose.hand_turn)
        placed[hand] = actor.vertices[hand] @ turn.T + np.array(
            [pose.hand_x, pose.hand_y, _HAND_CM + pose.z], np.float32
        )
        turned[hand] = normals[hand] @ turn.T
    return Posed(vertices, placed, turned)


def _swing_jaw(points: Floats, pose: Pose) -> Floats:
    """How far the points move when they follow the jaw."""
    moved: Floats = (points - JAW_HINGE) @ rotation(0, JAW_DEG * pose.jaw, 0).T + JAW_HINGE - points
    return moved


def _express(actor: Actor, pose: Pose) -> Floats:
    """(736, 3) control vertices in head space."""
    fields = expression_fields()
    vertices = actor.control.copy()
    side, from_middle = np.tanh(vertices[:, :1] / 1.2), np.abs(vertices[:, :1])

    def push(x: float | Floats, y: float | Floats, z: float | Floats) -> Floats:
        return np.concatenate([0 * side + x, 0 * side + y, 0 * side + z], 1)

    joy = max(pose.smile, 0)
    corners = fields.smile * pose.smile * push(side * 0.75, -0.75, 0.55)
    vertices += corners + fields.cheek * joy * push(side * 0.1, -0.28, -0.3)
    vertices += fields.lips * pose.pucker * push(-0.42 * vertices[:, :1], 0, -0.75 + 0.18 * from_middle)
    vertices += fields.jaw * _swing_jaw(vertices, pose)
    lowered = 0.45 * pose.frown * gaussian(from_middle - 1.5, 2.0)
    vertices += fields.brow * push(-0.25 * side * pose.frown, -0.85 * pose.brow + lowered, -0.1 * pose.brow)
    for eye, blink in enumerate((pose.blink_right, pose.blink_left)):
        shut = blink + 0.15 * joy + 0.2 * np.clip(pose.gaze_y, -0.5, 1)
        _shut_eye(actor, vertices, eye, float(np.clip(shut, -0.3, 1)))
    return vertices


def _shut_eye(actor: Actor, vertices: Floats, eye: int, shut: float) -> None:
    """Moves the lids of one eye (0 right, 1 left) in place; `shut` is -0.3 (wide open) to 1."""
    upper, lower = _LIDS[eye]
    lid = expression_fields().lid[:, 0].astype(np.float64)
    rest = actor.control
    rim = rest[upper]
    order = np.argsort(rim[:, 0])
    opening = np.interp(rest[:, 0], rim[order, 0], (rest[lower] - rim)[order, 1], 0, 0) + 0.02
    vertices[lower[1:-1], 1] -= 0.22 * max(shut, 0) * np.sin(np.linspace(0.2, np.pi - 0.2, 7))
    follows = (np.sign(rest[:, 0]) == 2 * eye - 1) * lid
    vertices[:, 1] += follows * shut * opening * 0.84
    # Lids slide over the eyeball.
    offset = vertices - actor.eye_centres[eye]
    distance = np.linalg.norm(offset * [0.85, 1, 1], axis=1, keepdims=True)
    inside = np.maximum(0, EYE_RADIUS_CM + 0.1 - distance)
    closing = ((follows > 0.3) * np.clip(shut * 2, 0, 1))[:, None]
    vertices += offset / (distance + 1e-6) * inside * closing * [0, 0.3, 1]


def _open_mouth(actor: Actor, pose: Pose, vertices: F32) -> None:
    """Lower teeth and tongue follow the jaw, the cavity follows below its middle; in place."""
    for part in (Part.TEETH_LOWER, Part.TONGUE, Part.MOUTH):
        at = actor.slices[part]
        follows: float | F32 = 1.0
        if part is Part.MOUTH:
            follows = smoothstep(-0.6, 1.4, vertices[at, 1:2] - actor.mouth_centre[1]).astype(np.float32)
        vertices[at] += follows * _swing_jaw(vertices[at], pose)
    vertices[actor.slices[Part.MOUTH], 0] *= np.float32(1 - 0.4 * max(pose.pucker, 0))

"""Lights a body. Actor, Pose and posed vertices in; colour of light and strength of highlights per vertex out."""

from __future__ import annotations

import numpy as np

from realtime.actors.actor import Actor, Part
from realtime.actors.deform import Posed
from realtime.actors.mesh import EYE_UPPER, mirrored
from realtime.actors.numerics import F32, gaussian, smoothstep
from realtime.actors.pose import Pose, body_rotation, head_rotation, towards_key_light, white_balance

_SKIN_WRAP = np.array([0.06, 0.11, 0.27], np.float32)
"""BGR: light that wanders through skin reaches round the edge of the shadow, red the farthest."""
_WRAP = np.float32(0.1)
_MOUTH_LIGHT = (
    (Part.TEETH_UPPER, 1.25),
    (Part.TEETH_LOWER, 0.8),
    (Part.MOUTH, 0.3),
    (Part.TONGUE, 0.45),
)


def light_actor(actor: Actor, pose: Pose, posed: Posed) -> tuple[F32, F32]:
    """(V, 3) BGR of the diffuse light and (V,) strength of the highlight, both linear, 1 being white.

    See Note [Baked light]. Highlights take the colour of the key light.
    """
    key = towards_key_light(pose)
    shadow, sky = _gather(actor, pose, key)
    if pose.hand:
        shadow = shadow * _hand_shadow(actor, posed.placed, key)
    _shade_eyes(actor, posed.at_rest, shadow, sky)
    gape = np.clip(1.5 * pose.jaw + 0.5 * pose.smile, 0, 1)
    for part, gain in _MOUTH_LIGHT:
        sky[actor.slices[part]] = 0.08 + 0.5 * gain * gape
        shadow[actor.slices[part]] = 0.8 * gain * gape

    facing = posed.normals @ key
    wrap = np.where(actor.is_skin[:, None], _SKIN_WRAP, _WRAP)
    lambert = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, 1)
    hair = actor.slices[Part.HAIR]
    lambert[hair] = 0.35 + 0.65 * lambert[hair]
    soft_edge = shadow[:, None] ** np.array([1.15, 1.1, 0.92], np.float32)  # reddish edges
    colour = white_balance(pose.kelvin)
    sky_colour = white_balance(pose.kelvin * 0.5 + 3600)
    diffuse = 1.18 * pose.key * colour * lambert * soft_edge + pose.ambient * sky_colour * sky[:, None]
    return diffuse, _highlights(actor, pose, posed.normals, key, facing) * shadow * pose.key


def _gather(actor: Actor, pose: Pose, key: F32) -> tuple[F32, F32]:
    """(V,) how much of the key light arrives, and (V,) light from sky and fill."""
    rotations = (head_rotation(pose), body_rotation(pose))
    directions = np.stack([actor.light_directions @ turn.T for turn in rotations], 1)

    def follow(values: F32) -> F32:
        followed: F32 = values[:, 0] + actor.body_weight * (values[:, 1] - values[:, 0])
        return followed

    near_key = np.exp(22 * (directions @ key - 1))
    shadow = follow(actor.visibility @ (near_key / near_key.sum(0)))
    fill = np.maximum(0, directions @ np.array([-key[0], -0.2, -0.9], np.float32))
    sky = 0.06 + 0.94 * follow(actor.ambient @ (0.55 - 0.35 * directions[:, :, 1] + 0.3 * fill**2))
    return shadow, sky


def _hand_shadow(actor: Actor, placed: F32, key: F32) -> F32:
    """(V,) a soft round shadow of the hand."""
    offset = placed - placed[actor.slices[Part.HAND]].mean(0)
    offset -= (offset @ key)[:, None] * key
    near = gaussian(np.linalg.norm(offset, axis=1), 5.5) * (actor.vertex_part != Part.HAND)
    return np.asarray(1 - 0.6 * near, np.float32)


def _shade_eyes(actor: Actor, at_rest: F32, shadow: F32, sky: F32) -> None:
    """Darkens the eyeballs under the lids and in the corners; in place."""
    eyes = actor.slices[Part.EYE]
    count = len(actor.eye_sphere)
    centre = np.repeat(actor.eye_centres, count, 0)
    lid_y = np.repeat(at_rest[[EYE_UPPER[4], mirrored(EYE_UPPER)[4]], 1], count)
    below_lid = smoothstep(-0.25, 0.55, at_rest[eyes, 1] - lid_y)
    open_sky = below_lid * smoothstep(2.2, 0.9, np.abs(at_rest[eyes, 0] - centre[:, 0]))
    sky[eyes] *= 0.35 + 0.65 * open_sky
    shadow[eyes] *= 0.3 + 0.7 * open_sky


def _highlights(actor: Actor, pose: Pose, normals: F32, key: F32, facing: F32) -> F32:
    """(V,) skin and cloth as two Blinn lobes, eyes as one sharp lobe, hair after Kajiya and Kay (1989)."""
    half = key + np.array([0, 0, -1], np.float32)
    half /= np.linalg.norm(half)
    towards_half = np.clip(normals @ half, 0, 1)
    fresnel = 0.6 + 1.4 * np.clip(1 + normals[:, 2], 0, 1) ** 3
    shine: F32 = (0.26 * towards_half**14 + 0.20 * towards_half**45) * fresnel * np.clip(facing * 3, 0, 1)
    eyes, hair = actor.slices[Part.EYE], actor.slices[Part.HAIR]
    shine[eyes] = 1.2 * towards_half[eyes] ** 120
    shine[actor.slices[Part.BODY]] *= 0.6
    shine[actor.slices[Part.GLASSES]] *= 2
    tangents = actor.hair_tangents @ head_rotation(pose).T

    def lobe(shift: float, power: int) -> F32:
        along = (tangents + shift * normals[hair]) @ half
        strength: F32 = np.clip(1 - along**2, 0, 1) ** (power / 2)
        return strength

    shine[hair] = (0.13 * lobe(0.18, 60) + 0.06 * lobe(-0.1, 14)) * smoothstep(-0.3, 0.4, facing[hair])
    return shine

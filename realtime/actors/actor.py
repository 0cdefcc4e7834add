"""One actor, ready to be filmed. An Identity in; mesh, texture and baked light out."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import cv2
import numpy as np

from realtime.actors import atlas
from realtime.actors.bake import bake_light
from realtime.actors.fields import harmonic
from realtime.actors.hair import grow_hair
from realtime.actors.identity import Identity
from realtime.actors.mesh import BROW, EYE, FACE_COUNT, LIPS, OVAL, mirrored
from realtime.actors.numerics import F32, F64, Floats, cross, fixed_point, points_3d, smoothstep
from realtime.actors.paint import paint_atlas
from realtime.actors.parts import Piece, ears, glasses, hand, polar_grid, torso
from realtime.actors.shape import shape_face
from realtime.actors.topology import (
    FACES,
    IS_SKULL,
    RING_VERTICES,
    SKULL_CENTRE,
    control_vertices,
    grid_faces,
    incidence,
    subdivide,
    vertex_normals,
)
from realtime.frame import ImageU8

EYE_RADIUS_CM = 2.0


class Part(IntEnum):
    """What a vertex belongs to and a pixel shows."""

    SKIN = 0
    EAR = 1
    BODY = 2
    HAIR = 3
    EYE = 4
    TEETH_UPPER = 5
    TEETH_LOWER = 6
    MOUTH = 7
    TONGUE = 8
    GLASSES = 9
    HAND = 10
    BACKGROUND = 255


MODELLED: tuple[Part, ...] = tuple(part for part in Part if part is not Part.BACKGROUND)
"""In the order of their vertices."""
_INSIDE = (Part.EYE, Part.TEETH_UPPER, Part.TEETH_LOWER, Part.MOUTH, Part.TONGUE)
_TWO_SIDED = (Part.EAR, Part.HAIR, Part.TEETH_UPPER, Part.TEETH_LOWER, Part.MOUTH, Part.GLASSES, Part.HAND)
_SKINNY = (Part.SKIN, Part.EAR, Part.HAND)


class Actor:
    """One body to film; immutable once built, which takes about a second. See Note [Head space] for all positions.

    Actor(ADA) is a person. Actor(ADA, body=BO, tone=1.0) wears ADA's face - the shape inside the oval, skin, eyes and
    teeth - on BO's head, hair and body: the exact answer to the swap of BO for ADA. `tone` pulls the mean colour of
    that skin from ADA's (0) to BO's (1).
    """

    def __init__(self, identity: Identity, body: Identity | None = None, tone: float = 0.0) -> None:
        if not 0 <= tone <= 1:
            raise ValueError(f"tone is between 0 (the identity's skin) and 1 (the body's), got {tone}")
        self.identity, self.tone = identity, tone
        self.body = body or identity
        face = body_face = shape_face(self.body.shape, self.body.seed)
        self.texture: ImageU8 = paint_atlas(self.body)
        """(1024, 1280, 4) BGR and gloss."""
        if body is not None:
            face = _blend_shapes(shape_face(identity.shape, identity.seed), body_face)
            self.texture = _blend_textures(paint_atlas(identity), self.texture, tone)
        self.control = control_vertices(face)
        """(736, 3) of the face at rest."""
        skin = subdivide(self.control)
        self.eye_centres = [_eye_centre(skin, rim) for rim in (EYE, mirrored(EYE))]
        """Right and left."""
        self.mouth_centre = skin[[13, 14]].mean(0)

        body_control = control_vertices(body_face)
        hair = grow_hair(self.body, np.random.default_rng(self.body.seed + 3), body_control)
        self.strands = hair.strands
        self.hair_tangents = hair.tangents.astype(np.float32)
        ear_piece, ear_light = ears(body_control)
        self._assemble(
            [
                Piece(skin, FACES, np.clip(subdivide(atlas.SKIN_UV, flat=True), 1, [766, 638])),
                _outwards(ear_piece, lambda point: point * [0.8, 1, 1]),
                _outwards(torso(self.body.build), lambda point: point * [0, 1, 0] + np.array([0, 0, 11])),
                _outwards(hair.shell, _hair_axis),
                self._eyes(),
                *self._mouth(),
                self._glasses(skin),
                hand(),
            ]
        )
        self._bake(ear_light)

    def _eyes(self) -> Piece:
        rings = [0, 4, 8, 13, 17, 19, 24, 32, 42, 54, 66, 78]
        polar, turn = polar_grid(np.deg2rad(rings), 28)
        sphere = points_3d(np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), -np.cos(polar))
        self.eye_sphere: F32 = sphere.astype(np.float32)
        """(336, 3) unit vectors: the front of an eye that looks straight ahead."""
        radius = polar / np.deg2rad(170)
        uv = np.tile(atlas.EYE.uv(0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)), (2, 1))
        faces = grid_faces(len(rings), 28, True)
        eyes = Piece(self.eyeballs(self.eye_sphere), np.concatenate([faces, faces + len(sphere)]), uv)
        right, left = self.eye_centres
        return _outwards(eyes, lambda point: np.where(point[:, :1] < 0, right, left))

    def eyeballs(self, sphere: F32) -> Floats:
        """(672, 3) both eyes, `sphere` (336, 3) being turned towards what they look at."""
        return np.concatenate([EYE_RADIUS_CM * sphere + centre for centre in self.eye_centres])

    def _mouth(self) -> list[Piece]:
        """Upper and lower teeth, cavity, tongue."""
        middle = self.mouth_centre
        u, v = np.meshgrid(np.linspace(-1, 1, 17), np.linspace(0, 1, 5))
        z = middle[2] + 0.7 + 0.34 * (2.3 * u) ** 2
        upper = points_3d(1.9 * u, middle[1] - 0.95 + 1.25 * v, z - 0.1 * v)
        lower = points_3d(1.7 * u, middle[1] + 1.15 - v, z + 0.2 - 0.1 * v)
        teeth_uv = atlas.TEETH.uv(u / 2 + 0.5, v)
        u, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
        dome = 2.8 * np.clip(1 - u**2 - v**2, 0, 1)
        cavity = points_3d(2.6 * u, middle[1] + 1.6 * v, middle[2] + 1.3 + 0.17 * (2.6 * u) ** 2 + dome)
        polar, turn = polar_grid(np.linspace(0, 1.5, 7), 16)
        x, y = 1.7 * np.sin(polar) * np.cos(turn), 0.55 * np.sin(polar) * np.sin(turn)
        tongue = middle + np.array([0, 1.25, 2.6]) + points_3d(x, y, -1.5 * np.cos(polar))
        pieces = [
            Piece(upper, grid_faces(5, 17), teeth_uv),
            Piece(lower, grid_faces(5, 17), teeth_uv),
            Piece(cavity, grid_faces(9, 9), atlas.FLESH.uv(0.1 + 0 * u, 0.5)),
            Piece(tongue, grid_faces(7, 16, True), atlas.FLESH.uv(0.8 + 0 * polar, 0.5)),
        ]
        return [_outwards(piece, lambda point: point + np.array([0, 0, 5])) for piece in pieces]

    def _glasses(self, skin: Floats) -> Piece:
        if self.body.glasses:
            return glasses(self.eye_centres, skin)
        return Piece(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 2)))

    def _assemble(self, pieces: list[Piece]) -> None:
        """Join the pieces, one per modelled part, into one mesh."""
        first = np.cumsum([0] + [len(piece.vertices) for piece in pieces]).tolist()
        self.slices: dict[Part, slice] = {part: slice(first[part], first[part + 1]) for part in MODELLED}
        """Part -> its vertices."""
        self.vertices: F32 = np.concatenate([piece.vertices for piece in pieces]).astype(np.float32)
        """(V, 3) at rest."""
        self.uv: F32 = np.concatenate([piece.uv for piece in pieces]).astype(np.float32)
        """(V, 2) texture pixels."""
        faces = [piece.faces + offset for piece, offset in zip(pieces, first, strict=False)]
        self.faces = np.concatenate(faces).astype(np.int32)
        """(F, 3)."""
        parts = np.array(MODELLED, np.uint8)
        self.face_part = np.repeat(parts, [len(piece.faces) for piece in pieces])
        self.vertex_part = np.repeat(parts, [len(piece.vertices) for piece in pieces])
        self.two_sided = np.isin(self.face_part, _TWO_SIDED)
        self.is_skin = np.isin(self.vertex_part, _SKINNY)
        self.in_oval = np.isin(self.face_part, _INSIDE)
        """(F,) what a swap replaces."""
        self.in_oval[: len(FACES)] = ~IS_SKULL
        self.normals: F32 = vertex_normals(self.vertices, self.faces, incidence(self.faces, len(self.vertices)))
        """(V, 3) at rest."""
        y = self.vertices[:, 1]
        on_body = [self.vertex_part == Part.BODY, self.vertex_part == Part.HAIR]
        weight = np.select(on_body, [smoothstep(8, 17, y), 0.8 * smoothstep(9, 20, y)], 0)
        self.body_weight: F32 = weight.astype(np.float32)
        """(V,) how much a vertex follows the body instead of the head."""
        self.bent = np.flatnonzero(self.body_weight > 0)

    def _bake(self, ear_light: Floats) -> None:
        """See Note [Baked light]."""
        solid = self.slices[Part.HAND].start
        light = bake_light(self.vertices, self.normals, self.faces[self.face_part < Part.HAND], solid)
        self.light_directions, self.visibility = light.directions, light.visibility
        always = self.in_oval | ~np.isin(self.face_part, (Part.SKIN, Part.HAIR))
        below_eyes = (self.vertices[self.faces, 1] > 0).any(1)
        self.keep = light.seen[self.faces].any(1) | always | below_eyes
        """(F,) False for faces that no camera in front can ever see."""
        self.visibility[self.slices[Part.EYE]] = 1
        self.ambient: F32 = self.visibility * light.cosines / light.cosines.sum(1, keepdims=True)
        """(V, 96) the share of diffuse light that comes from each direction."""
        self.ambient[self.slices[Part.EAR]] *= ear_light[:, None]


def _eye_centre(skin: Floats, rim: list[int]) -> Floats:
    middle: Floats = skin[[rim[place] for place in (3, 4, 5, 11, 12, 13)]].mean(0)
    return middle + np.array([0, 0, EYE_RADIUS_CM - 0.12], np.float32)


def _hair_axis(point: Floats) -> Floats:
    """The centre of the skull, and below it a line down."""
    axis: Floats = SKULL_CENTRE + np.array([0, 1, 0]) * np.maximum(point - np.array([0, 3, 0]), 0)
    return axis


def _outwards(piece: Piece, centre: Callable[[Floats], Floats]) -> Piece:
    """The same piece, each face turned away from `centre(middle of the face)`."""
    corners = piece.vertices[piece.faces]
    normals = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    inwards = (normals * (middle - centre(middle))).sum(1) < 0
    return piece._replace(faces=np.where(inwards[:, None], piece.faces[:, ::-1], piece.faces))


def _blend_shapes(face: F64, body_face: F64) -> F64:
    """(468, 3): `face` around eyes, nose and mouth, `body_face` on the oval, smooth in between."""
    features = [168, 6, 4, 2, 13, 14, 18, 50, 205, 200, *LIPS, *EYE, *BROW]
    outside = OVAL + list(RING_VERTICES)
    pins = {**dict.fromkeys(outside, 0.0), **dict.fromkeys(features + mirrored(features), 1.0)}
    return body_face + (face - body_face) * harmonic(pins)[:FACE_COUNT, None]


def _blend_textures(face: ImageU8, body: ImageU8, tone: float) -> ImageU8:
    """The body's texture with the skin inside the oval, the eyes and the teeth of `face`."""
    blended = body.copy()
    for region in (atlas.SKIN, atlas.EYE, atlas.TEETH):
        inner = face[region.window].astype(np.float32)
        outer = body[region.window]
        mask = np.ones((region.height, region.width, 1), np.float32)
        if region is atlas.SKIN:
            mask = _oval_mask()
            wanted, own = ((skin[..., :3] * mask).sum((0, 1)) for skin in (outer, inner))
            inner[..., :3] *= 1 + tone * (wanted / own - 1)
        blended[region.window] = np.clip(outer + (inner - outer) * mask, 0, 255)
    return blended


def _oval_mask() -> F32:
    mask = np.zeros((atlas.SKIN.height, atlas.SKIN.width, 1), np.float32)
    cv2.fillPoly(mask, [fixed_point(atlas.SKIN_UV[OVAL], 1)], (1.0,))
    mask = np.asarray(cv2.erode(mask, np.ones((25, 25))), np.float32)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 9), np.float32)[..., None]

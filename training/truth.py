"""Judges the swap itself on faces that were never trained on. A model in; expression, pose, identity, flicker out.

Note [Held-out truth]
    How well each person is repainted says little about the swap: a decoder can repaint the identity perfectly and give
    the performer a frozen or a wrong face. So held-out faces of the performer are painted by the identity's decoder,
    and blended into the performer's own picture as the live loop does, but through the performer's true mask: the
    model's own masks could hide what is wrong. Then the landmark network looks at both.

    swap_found            share of the swaps in which it sees a face at all, of those where it sees the performer's
    expression_error_iod  Both meshes are turned to the front (Note [Head pose]) and brought to one size by their rigid
                          points. From each, the mean mesh over all these faces is subtracted: what is left is motion,
                          and the shape of a face does not count. The figure is the mean distance of the two motions
                          over lips, lids and brows, in units of the distance between the outer corners of the eyes.
    expression_followed   1 - (squared distance of the two motions) / (squared motion of the performer): 1 follows
                          exactly, 0 is as good as a face that never moves, less is worse than that
    pose_error_deg        yaw, pitch, roll, again without their means: the mean length of the difference. The network
                          itself is wrong by two degrees.
    identity_margin       see Note [Critic] in training.critic; critic_accuracy tells how far to trust it
    flicker               between two neighbouring frames p0, p1 of the performer and their swaps s0, s1: the optical
                          flow from p1 to p0 moves p0 and s0 along (W), and

                              flicker = rms over the face of ((s1 - W s0) - (p1 - W p0)) / sqrt(2), grey levels:

                          what motion explains is moved away, what light and noise did to the performer is subtracted,
                          and for errors that are independent from frame to frame it is their temporal standard
                          deviation, as in realtime.score. The mean over up to 16 pairs at 128 pixels. Between
                          frames far apart no flow explains everything: at eight a second the exact swap below gets
                          4.1, with noise of five grey levels 6.0.

    On two rendered actors (32 faces of BO, ADA's exact swap known): exact swap, half the expression, none, somebody
    else's: error 0.010, 0.014, 0.026, 0.033 and followed 0.92, 0.81, 0.22, -0.53; a light-128 model after 500, 5000 and
    9712 steps: 0.022, 0.015, 0.013. Flat colour, noise or a negative: no face found in four of five.
    A figure that cannot be measured - too few faces, no neighbouring frames, no useful critic - is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realtime.align import RIGID, CropGeometry, invert
from realtime.blend import Blender
from realtime.face_mesh import FaceMesh
from realtime.frame import ImageU8, MaskF32, Matrix, Points
from realtime.infer import EngineOutput
from realtime.landmarks import BROWS, LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE
from realtime.region import Region, region_of_mesh
from training.augment import straight_crops
from training.batches import crop_between, stack_faces
from training.config import TrainConfig
from training.contact_sheet import pick_evenly
from training.critic import Critic, open_critic
from training.faceset import Faceset
from training.model import Side, SwapModel
from training.pose import head_pose

FACES, PAIRS = 32, 16
"""Faces whose meshes are compared; pairs of neighbouring frames whose flicker is measured."""
FEWEST = 4
"""With fewer faces, there is no mean to compare motion with."""
NEIGHBOURS_S = 0.4
"""Frames further apart than this are no neighbours: three faces a second are."""
FLICKER_PX = 128
"""Side at which flicker is measured, so that models of all sizes can be compared."""
STILL = 0.01
"""Rms motion, in eye distances, below which a performer shows no expression that could be followed."""
_PRESENCE = 0.5
_INSIDE = 250
_EYES = 33, 263
_MOVING = np.array(sorted({*LIPS_OUTER, *LIPS_INNER, *RIGHT_EYE, *LEFT_EYE, *BROWS}))


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    """A stored picture of the performer, ready to have another face laid over it."""

    image: ImageU8
    """(P, P, 3)"""
    crop: ImageU8
    """(R, R, 3) what the model is shown of it."""
    mask: MaskF32
    """(R, R) in [0, 1]: where the performer's face is in the crop."""
    crop_to_stored: Matrix
    region: Region
    mesh: Points
    """What the network sees in `image`."""

    def look(self, face: NDArray[np.float32], network: FaceMesh) -> Points | None:
        """The mesh of `face` (R, R, 3) in [0, 1] in this seat; None where the network sees no face."""
        output = EngineOutput(face, np.ones_like(self.mask), self.mask)
        return _fit(network, Blender().blend(self.image, output, self.crop_to_stored, 0.0, crop=self.crop), self.region)


@dataclass(frozen=True, slots=True, eq=False)
class _Neighbours:
    """Two frames of the performer that follow each other, FLICKER_PX wide, by their place among the inputs."""

    before: int
    now: int
    flow: NDArray[np.float32]
    """(F, F, 2) where each pixel of `now` was in `before`."""
    inside: NDArray[np.bool_]
    """(F, F) the face in both."""
    change: NDArray[np.float32]
    """(F, F, 3) what motion does not explain of the performer's own change, grey levels."""


class Truth:
    """Held-out faces of the performer, and what is known of them. Made once for a run; not thread-safe."""

    def __init__(
        self, faceset: Faceset, indices: NDArray[np.intp], geometry: CropGeometry, critic: Critic | None
    ) -> None:
        """Read up to FACES faces of the performer, evenly spread over `indices`, and their neighbours.

        Raises FacesetError for faces that cannot be read, ModelError when the face networks cannot be used.
        """
        picked, pairs = _choose(faceset, indices)
        stack = stack_faces(faceset, picked, geometry)
        crops = straight_crops(stack.pixels, geometry.size, stack.margin)
        self._critic, self._network = critic, FaceMesh()
        self._inputs, self._count = crops.inputs, min(FACES, len(indices))
        self._seats: dict[int, _Seat] = {}
        to_crop = crop_between(faceset.geometry.widened(faceset.margin), geometry)
        for slot in range(self._count):
            seat = _sit(faceset, int(picked[slot]), to_crop, crops.inputs[slot], crops.masks[slot], self._network)
            if seat is not None:
                self._seats[slot] = seat
        self._neighbours = [_neighbours(crops.inputs, crops.masks, *pair) for pair in pairs]

    @classmethod
    def open(cls, run: Path, facesets: Mapping[Side, Faceset], config: TrainConfig) -> Self:
        """The truth of a run whose facesets are open; its critic is in `run`, see open_critic.

        A performer of whom nothing is held out is looked at on what was trained on. Raises FacesetError, ModelError.
        """
        seen, unseen = facesets["performer"].split_by_time(config.held_out)
        critic = open_critic(run, facesets, config)
        return cls(facesets["performer"], unseen if len(unseen) else seen, config.geometry, critic)

    def judge(self, model: SwapModel) -> dict[str, float]:
        """Figures of the swap, see Note [Held-out truth]; `model` paints the inputs as the identity."""
        device = next(model.parameters()).device
        with torch.no_grad():
            painted = model(self._inputs.to(device), "identity")[0].face.float().cpu()
        return self.judge_pictures(painted.nan_to_num(0, 0, 0).clamp(0, 1))

    def judge_pictures(self, swaps: Tensor) -> dict[str, float]:
        """The same of swaps (N, 3, R, R) in [0, 1] that are already there, one for each of `inputs`."""
        if swaps.shape != self._inputs.shape:
            raise ValueError(f"expected {tuple(self._inputs.shape)} swaps, got {tuple(swaps.shape)}")
        figures = self._seen(swaps)
        if self._critic is not None:
            figures["critic_accuracy"] = self._critic.accuracy
            if self._critic.useful:
                figures["identity_margin"] = self._critic.margin(swaps[: self._count])
        if self._neighbours:
            figures["flicker"] = self._flicker(swaps)
        return {name: round(value, 5) for name, value in figures.items()}

    @property
    def inputs(self) -> Tensor:
        """(N, 3, R, R) in [0, 1]: the performer's faces; the first FACES are spread in time, then come neighbours."""
        return self._inputs

    def _seen(self, swaps: Tensor) -> dict[str, float]:
        if len(self._seats) < FEWEST:
            return {}
        meshes: list[tuple[Points, Points]] = []
        for slot, seat in self._seats.items():
            mesh = seat.look(np.ascontiguousarray(swaps[slot].permute(1, 2, 0).numpy()), self._network)
            if mesh is not None:
                meshes.append((mesh, seat.mesh))
        figures = {"swap_found": len(meshes) / len(self._seats)}
        if len(meshes) >= FEWEST:
            ours, theirs = ([pair[i] for pair in meshes] for i in (0, 1))
            figures |= expression_figures(ours, theirs)
            figures["pose_error_deg"] = pose_error_deg(ours, theirs)
        return figures

    def _flicker(self, swaps: Tensor) -> float:
        steps = []
        for pair in self._neighbours:
            before, now = (_levels(swaps[slot]) for slot in (pair.before, pair.now))
            rest = (now - _moved(before, pair.flow) - pair.change)[pair.inside]
            steps.append(math.sqrt(float((rest**2).mean(dtype=np.float64)) / 2))
        return sum(steps) / len(steps)


def expression_figures(swaps: Sequence[Points], performers: Sequence[Points]) -> dict[str, float]:
    """How the expressions of two equally long lists of (468, 3) meshes agree, see Note [Held-out truth]."""
    ours, theirs = (np.stack([_frontal(mesh) for mesh in meshes]) for meshes in (swaps, performers))
    right, left = (theirs[:, corner].mean(axis=0) for corner in _EYES)
    unit = float(np.linalg.norm(right - left))
    motion, wanted = ((x - x.mean(axis=0))[:, _MOVING] / unit for x in (ours, theirs))
    figures = {"expression_error_iod": float(np.linalg.norm(motion - wanted, axis=2).mean())}
    moved = float((wanted**2).sum(axis=2).mean())
    if moved > STILL**2:
        figures["expression_followed"] = 1 - float(((motion - wanted) ** 2).sum(axis=2).mean()) / moved
    return figures


def pose_error_deg(swaps: Sequence[Points], performers: Sequence[Points]) -> float:
    """Mean length of the difference of two lists of poses, each without its own mean, see Note [Held-out truth]."""
    difference = np.array([_angles(a) for a in swaps]) - np.array([_angles(b) for b in performers])
    difference = (difference + 180) % 360 - 180
    return float(np.linalg.norm(difference - difference.mean(axis=0), axis=1).mean())


def _angles(mesh: Points) -> tuple[float, float, float]:
    pose = head_pose(mesh)
    return pose.yaw, pose.pitch, pose.roll


def _frontal(mesh: Points) -> NDArray[np.float64]:
    """(468, 2) the mesh turned to the front, its rigid points in the middle and of unit size."""
    yaw, pitch, roll = np.radians(_angles(mesh))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    points = mesh[:468].astype(np.float64)
    points -= points[RIGID].mean(axis=0)
    size = math.sqrt(float((points[RIGID] ** 2).sum(axis=1).mean()))
    frontal: NDArray[np.float64] = (points @ (about_z @ about_x @ about_y))[:, :2] / size
    return frontal


def _choose(faceset: Faceset, indices: NDArray[np.intp]) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
    """Which faces to look at, first those spread in time, and which of these places follow each other."""
    records = faceset.records
    order = sorted((int(i) for i in indices), key=lambda i: (records[i].source, records[i].pts_s))
    spread = [order[place] for place in pick_evenly(len(order), FACES)]
    after = {}
    for first, second in itertools.pairwise(order):
        a, b = records[first], records[second]
        if (a.source, a.track) == (b.source, b.track) and 0 < b.pts_s - a.pts_s <= NEIGHBOURS_S:
            after[first] = second
    followed = [i for i in spread if i in after]
    places = {index: place for place, index in enumerate(spread)}
    pairs = []
    for first in (followed[i] for i in pick_evenly(len(followed), PAIRS)):
        pairs.append((places[first], places.setdefault(after[first], len(places))))
    return np.array(list(places), np.intp), pairs


def _sit(faceset: Faceset, index: int, to_crop: Matrix, crop: Tensor, mask: Tensor, network: FaceMesh) -> _Seat | None:
    """None where the network does not see the performer's own face: there is nothing to compare with."""
    image, region = faceset.image(index), region_of_mesh(faceset.landmarks[index])
    mesh = _fit(network, image, region)
    if mesh is None:
        return None
    pixels = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return _Seat(image, pixels, mask[0].contiguous().numpy(), invert(to_crop), region, mesh)


def _fit(network: FaceMesh, image: ImageU8, region: Region) -> Points | None:
    presence, mesh = network.fit(image, region)
    try:
        head_pose(mesh)
    except ValueError:  # sure of a face, and yet its mesh is none
        return None
    return mesh if presence > _PRESENCE else None


def _neighbours(crops: Tensor, masks: Tensor, before: int, now: int) -> _Neighbours:
    first, second = (_levels(crops[slot]) for slot in (before, now))
    greys = [cv2.cvtColor(np.rint(each).astype(np.uint8), cv2.COLOR_BGR2GRAY) for each in (second, first)]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = np.asarray(finder.calc(greys[0], greys[1], np.zeros((*greys[0].shape, 2), np.float32)), np.float32)
    there, here = (_levels(masks[slot])[..., 0] for slot in (before, now))
    inside = (here > _INSIDE) & (_moved(there, flow) > _INSIDE)
    return _Neighbours(before, now, flow, inside, second - _moved(first, flow))


def _moved(picture: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    moved = cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _levels(picture: Tensor) -> NDArray[np.float32]:
    """(F, F, C) grey levels [0, 255] of (C, R, R) in [0, 1], FLICKER_PX wide."""
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) * np.float32(255)
    smaller = pixels.shape[0] > FLICKER_PX
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (FLICKER_PX, FLICKER_PX), interpolation=how), np.float32).reshape(
        FLICKER_PX, FLICKER_PX, -1
    )

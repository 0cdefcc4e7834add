"""Training pairs as DeepFaceLab and faceswap make them. A batch of stored faces in, one person's Pair out.

Face by face with OpenCV on the CPU, as they do: what that costs is part of what their training costs. Written from
published numbers, none of their code is in here. Both leave `input_masks` as the masks of the target, because neither
learns from where a face is in the warped input.

Note [Half a pixel]
    Both bend a picture by a coarse grid of nodes that is resized to the picture's size and cut. Resizing counts from
    the middle of pixels, the nodes from the rim, so even a grid without noise moves the input by half a pixel against
    the target. DeepFaceLab also stores both directions in one array: the noise of y is that of x, transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augment import Pair

Picture = NDArray[np.float32]
"""(R, R, 3) or (R, R, 2) in [0, 1]."""
ROTATION_DEG, SHIFT = 10.0, 0.05
"""Of both: how far faces are turned, and moved in units of their side."""
DEEPFACELAB_ZOOM, FACESWAP_ZOOM = (1 / 1.15, 1.15), (0.95, 1.05)
DEEPFACELAB_FLIP, FACESWAP_FLIP = 0.4, 0.5
CELLS, CELL_NOISE, NOISE_LIMIT = (2, 4, 8), 0.24, 2.5
"""DeepFaceLab's grids in cells a side; the most a node moves in cells, drawn twice; where its normal is cut off."""
FACESWAP_CELLS, FACESWAP_NOISE = 4, 5 / 256
"""Cells a side, and the deviation of a node in units of the side."""
LIGHTNESS, COLOUR = 0.30, 0.08
"""How far faceswap moves L, and a and b, towards one of their ends."""
CLAHE_SHARE, CLAHE_LIMIT, CLAHE_TILES = 0.5, 2.0, 4
"""Of the faces whose contrast faceswap equalises in 1 to 4 tiles a side."""


class _Face(NamedTuple):
    """One augmented face."""

    input: Picture
    target: Picture
    masks: Picture
    """(R, R, 2): face, and eyes and mouth, of the target."""


def deepfacelab_pair(
    faces: Tensor, size: int, margin: float, generator: torch.Generator, *, flip: bool = False
) -> Pair:
    """One batch as DeepFaceLab's trainer makes it with its defaults: no transfer of colours, no random hue.

    Args:
        faces: (N, 5, P, P) uint8, see training.augment.CHANNELS.
        size: side R of the training crops.
        margin: how much wider than the crop the stored faces are.
        generator: the only source of randomness.
        flip: mirror four faces of ten; its default for the performer, not for the identity.
    """
    return _pair(faces, size, margin, generator, lambda *cut: _deepfacelab_face(*cut, flip=flip))


def faceswap_pair(faces: Tensor, size: int, margin: float, generator: torch.Generator) -> Pair:
    """One batch as faceswap's trainer makes it with its defaults; arguments as of `deepfacelab_pair`."""
    return _pair(faces, size, margin, generator, _faceswap_face)


def _pair(
    faces: Tensor,
    size: int,
    margin: float,
    generator: torch.Generator,
    change: Callable[[Picture, Picture, np.random.Generator], _Face],
) -> Pair:
    rng = np.random.default_rng(int(torch.randint(0, 1 << 62, (1,), generator=generator)))
    changed = [change(*_cut(face, size, margin), rng) for face in faces.cpu().numpy()]
    inputs, targets, masks = (_stack(pictures, faces.device) for pictures in zip(*changed, strict=True))
    return Pair(inputs, targets, masks[:, :1], masks[:, :1], masks[:, 1:])


def _stack(pictures: Sequence[Picture], device: torch.device) -> Tensor:
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return batch.clamp_(0, 1).to(device)


def _cut(face: NDArray[np.uint8], size: int, margin: float) -> tuple[Picture, Picture]:
    """The nominal crop of a (5, P, P) face, as `training.augment.crop_grid` places it: picture and masks."""
    stored = face.shape[-1]
    scale, shift = stored / (margin * size), stored / 2 * (1 - 1 / margin)
    planes = np.ascontiguousarray(face.transpose(1, 2, 0))
    matrix = np.array([[scale, 0, shift], [0, scale, shift]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(planes[..., :3], matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    masks = cv2.warpAffine(planes[..., 3:], matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return _levels(picture), _levels(masks)


def _levels(picture: NDArray[Any]) -> Picture:
    """0..255 as 0..1."""
    return np.asarray(picture / np.float32(255), np.float32)


def _similarity(size: int, zoom: tuple[float, float], flip: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) random turn, zoom and shift about the middle, and for a share `flip` of them a mirror after it."""
    turn, middle = rng.uniform(-ROTATION_DEG, ROTATION_DEG), (size / 2, size / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, turn, rng.uniform(*zoom)), np.float64)
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * size
    if rng.random() < flip:
        matrix = np.array([[-1, 0, size - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    return matrix


def _move(picture: Picture, matrix: NDArray[np.float64], interpolation: int, border: int) -> Picture:
    side = picture.shape[0]
    moved = cv2.warpAffine(picture, matrix, (side, side), flags=interpolation, borderMode=border)
    return np.asarray(moved, np.float32)


def bend_map(nodes: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """(n + 1, n + 1) positions of nodes -> (size, size) positions of pixels, see Note [Half a pixel]."""
    cell = size // (len(nodes) - 1)
    wide = cv2.resize(nodes, (size + cell, size + cell))
    half = cell // 2
    return np.asarray(wide[half : half + size, half : half + size], np.float32)


def deepfacelab_maps(
    size: int, rng: np.random.Generator, cells: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(size, size) maps of x and y; `cells` a side, at random unless given. Nodes on the rim stay."""
    cells = int(rng.choice(CELLS)) if cells is None else cells
    nodes = np.tile(np.linspace(0, size, cells + 1), (cells + 1, 1))
    reach, inner = CELL_NOISE * size / cells / NOISE_LIMIT, (cells - 1, cells - 1)
    nodes[1:-1, 1:-1] += (_cut_normal(inner, rng) + _cut_normal(inner, rng)) * reach
    bent = bend_map(nodes, size)
    return bent, np.ascontiguousarray(bent.T)


def _cut_normal(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal values, those beyond NOISE_LIMIT drawn again."""
    values = rng.standard_normal(shape)
    while (far := np.abs(values) > NOISE_LIMIT).any():
        values[far] = rng.standard_normal(int(far.sum()))
    return values


def faceswap_maps(size: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(size, size) maps of x and y, independent; all nodes move."""
    straight = np.tile(np.linspace(0, size, FACESWAP_CELLS + 1), (FACESWAP_CELLS + 1, 1))
    noise = rng.normal(0, FACESWAP_NOISE * size, (2, *straight.shape))
    return bend_map(straight + noise[0], size), bend_map(straight.T + noise[1], size)


def _deepfacelab_face(picture: Picture, masks: Picture, rng: np.random.Generator, *, flip: bool) -> _Face:
    side = picture.shape[0]
    matrix = _similarity(side, DEEPFACELAB_ZOOM, DEEPFACELAB_FLIP if flip else 0.0, rng)
    bent = cv2.remap(picture, *deepfacelab_maps(side, rng), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return _Face(
        _move(np.asarray(bent, np.float32), matrix, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE),
        _move(picture, matrix, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE),
        _move(masks, matrix, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT),
    )


def _faceswap_face(picture: Picture, masks: Picture, rng: np.random.Generator) -> _Face:
    side = picture.shape[0]
    matrix = _similarity(side, FACESWAP_ZOOM, FACESWAP_FLIP, rng)
    target = _move(_recoloured(picture, rng), matrix, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    bent = cv2.remap(target, *faceswap_maps(side, rng), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _Face(np.asarray(bent, np.float32), target, _move(masks, matrix, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT))


def _recoloured(picture: Picture, rng: np.random.Generator) -> Picture:
    """Input and target alike: each channel of Lab towards one of its ends, and often more contrast."""
    lab = cv2.cvtColor((picture.clip(0, 1) * 255).round().astype(np.uint8), cv2.COLOR_BGR2LAB).astype(np.float32)
    for channel, reach in enumerate((LIGHTNESS, COLOUR, COLOUR)):
        amount = rng.uniform(-reach, reach)
        plane = lab[..., channel]
        lab[..., channel] = plane + (255 - plane) * amount if amount >= 0 else plane * (1 + amount)
    levels = lab.round().astype(np.uint8)
    if rng.random() < CLAHE_SHARE:
        tiles = int(rng.integers(1, CLAHE_TILES + 1))
        levels[..., 0] = cv2.createCLAHE(CLAHE_LIMIT, (tiles, tiles)).apply(np.ascontiguousarray(levels[..., 0]))
    return _levels(cv2.cvtColor(levels, cv2.COLOR_LAB2BGR))

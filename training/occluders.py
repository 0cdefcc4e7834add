"""Draws things that stand in front of a face. Random numbers in; coverage, looks and shadows of occluders out.

Note [Occluders]
    A hand before the face has to stay before the swap. The mask head can only learn that from faces with something in
    front, and footage rarely holds enough of them. So hands, arms, microphones, boxes and shapeless things are drawn
    over the *input*; the target stays the bare face, which teaches the decoders to paint what is hidden, and the wanted
    mask of the input loses what the thing covers. Shadows fall on inputs too, with and without a thing, and take
    nothing from the mask: what is dark is not what is in front.

    A thing is a union of round cones, each with two ends and two radii, and one box. Its outline is a signed distance,
    its relief the height of the cones, which is what shades fingers and leaves a crease between them. Both are smooth,
    so they are computed at half the resolution.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CONES = 8
"""Of the richest thing, a hand: two for the palm, four fingers, a thumb, an arm."""
DRAWS = 68
"""Uniform numbers that one thing is made of: two that decide whether and how it shows, and the rest in turn."""
PIECES = 0.08
"""Share of things that look like a piece of another picture."""
GRAIN = 512
"""Side of the sheet of noise that every thing's grain is cut from: as good as fresh noise, and never drawn again."""
MOST_HIDDEN = 0.7
"""A thing that hides more of the face than this is left out: nothing could be told from the rest."""
SHADOWS = 0.2
"""Share of inputs that a shadow falls on though nothing stands in front."""
_KINDS = ("hand", "arm", "microphone", "blob", "box")
_SHARES = (0.45, 0.15, 0.15, 0.13, 0.12)
_SKIN_PALE, _SKIN_DARK = (0.62, 0.72, 0.92), (0.12, 0.18, 0.30)
"""BGR ends of the line that skin tones lie on."""


class Things(NamedTuple):
    """What decides what stands in front of N faces; row n is about face n alone."""

    numbers: Tensor
    """(N, DRAWS) in [0, 1)."""
    blotches: Tensor
    """(N, 3, 8, 8) in [0, 1)."""

    def part(self, rows: slice | Tensor) -> Things:
        """Those of some of the faces."""
        return Things(self.numbers[rows], self.blotches[rows])


class Occluded(NamedTuple):
    """Inputs with things in front."""

    inputs: Tensor
    """(N, 3, R, R) in [0, 1]."""
    masks: Tensor
    """(N, 1, R, R) of the face that is still seen."""


class _Cones(NamedTuple):
    """Shapes of M things in sides of the crop, x right, y down."""

    starts: Tensor
    """(M, CONES, 2)."""
    ends: Tensor
    start_radii: Tensor
    """(M, CONES); negative: there is no such cone."""
    end_radii: Tensor
    box: Tensor
    """(M, 6): centre, half sides, cosine and sine; half sides below 0: no box."""


class _Draws:
    """Uniform numbers of M things, handed out in turn."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._next = numbers, 0

    def take(self, low: float, high: float, count: int = 1) -> Tensor:
        """(M, count) in [low, high), or (M,) for a count of 1."""
        taken = self._numbers[:, self._next : self._next + count] * (high - low) + low
        self._next += count
        if self._next > self._numbers.shape[1]:
            raise ValueError(f"a thing needs more than {self._numbers.shape[1]} numbers; raise DRAWS")
        return taken[:, 0] if count == 1 else taken


def draw_things(count: int, generator: torch.Generator) -> Things:
    """Things for `count` faces, whether or not they will be shown."""
    return Things(torch.rand(count, DRAWS, generator=generator), torch.rand(count, 3, 8, 8, generator=generator))


def shows_another(things: Things, share: float) -> Tensor:
    """(N,) whether a piece of another picture stands in front of a face, when a `share` of them is occluded."""
    return (things.numbers[:, 0] < share) & (things.numbers[:, 1] < PIECES)


def occlude(inputs: Tensor, masks: Tensor, things: Things, share: float, pieces: Tensor | None = None) -> Occluded:
    """Put a thing in front of a `share` of inputs (N, 3, R, R) whose faces lie in masks (N, 1, R, R).

    `pieces` (K, 3, R, R) are the pictures for the K rows that `shows_another` names.
    """
    size, device = inputs.shape[-1], inputs.device
    coin = things.numbers[:, 0]
    rows = torch.nonzero(coin < share * (1 + SHADOWS)).flatten()  # found on the CPU: a GPU need not be waited for
    if not len(rows):
        return Occluded(inputs, masks)
    another = torch.nonzero(shows_another(things, share)[rows]).flatten().to(device)
    bare = (coin[rows] >= share).view(-1, 1, 1, 1).to(device)
    chosen, numbers, blotches = (x.to(device, non_blocking=True) for x in (rows, *things.part(rows)))
    draws = _Draws(numbers[:, 1:])
    look = draws.take(0, 1)
    cones, dark = _shape(draws)
    distance, height = _relief(cones, size // 2)
    width = draws.take(0.006, 0.03).view(-1, 1, 1)
    outline = (0.5 - distance / width).clamp(0, 1)[:, None]
    alpha = _enlarge(outline, size)
    faces, seen = inputs[chosen], masks[chosen]
    area = seen.sum(dim=(1, 2, 3)).clamp_min(1)
    hidden = (alpha * seen).sum(dim=(1, 2, 3)) / area
    alpha = alpha * ((hidden < MOST_HIDDEN).view(-1, 1, 1, 1) & ~bare)
    tones = (faces * seen).sum(dim=(2, 3)) / area[:, None]
    pattern = _pattern(draws, look, _colours(draws, tones, dark), blotches, size // 2)
    if pieces is not None:
        # Upside down and twice as large: skin and hair, but no face that could be meant.
        pattern[another] = pieces[..., : size // 2, : size // 2].flip(2, 3)
    looks = _enlarge((pattern * _shade(draws, height)).clamp(0, 1), size)
    shadow = _shadow(draws, outline, size)
    out_inputs, out_masks = inputs.clone(), masks.clone()
    out_inputs[chosen] = torch.lerp(faces * shadow, looks, alpha)
    out_masks[chosen] = seen * (1 - alpha)
    return Occluded(out_inputs, out_masks)


def _enlarge(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def _shape(draws: _Draws) -> tuple[_Cones, Tensor]:
    """Things of every kind, one of which is kept for each; and (M,) which of them are microphones."""
    pick = draws.take(0, 1)
    kind = torch.bucketize(pick, pick.new_tensor(_SHARES).cumsum(0)[:-1])
    centre = draws.take(0, 1, 2)
    turn = draws.take(-math.pi, math.pi)
    kinds = [_hand(draws), _arm(draws), _microphone(draws), _blob(draws)]
    points = torch.stack([p for p, _ in kinds], dim=1)
    radii = torch.stack([r for _, r in kinds], dim=1)
    row = torch.arange(len(pick), device=pick.device)
    of_cones = kind.clamp_max(len(kinds) - 1)
    chosen, chosen_radii = points[row, of_cones], radii[row, of_cones]
    cos, sin = torch.cos(turn), torch.sin(turn)
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    placed = torch.einsum("mij,mkej->mkei", rotation, chosen) + centre[:, None, None]
    is_box = kind == len(kinds)
    chosen_radii = chosen_radii.masked_fill(is_box[:, None, None], -1)
    sides = torch.where(is_box[:, None], torch.stack([draws.take(0.05, 0.22), draws.take(0.08, 0.4)], 1), -1.0)
    box = torch.cat([centre, sides, cos[:, None], sin[:, None]], dim=1)
    cones = _Cones(placed[:, :, 0], placed[:, :, 1], chosen_radii[..., 0], chosen_radii[..., 1], box)
    return cones, kind == _KINDS.index("microphone")


def _fill(points: list[list[Tensor]], radii: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """(M, CONES, 2, 2) ends and (M, CONES, 2) radii of a thing with perhaps fewer cones."""
    ends = torch.stack([torch.stack(pair, 1) for pair in points], 1)
    sizes = torch.stack([torch.stack(pair, 1) for pair in radii], 1)
    missing = CONES - ends.shape[1]
    return F.pad(ends, (0, 0, 0, 0, 0, missing)), F.pad(sizes, (0, 0, 0, missing), value=-1.0)


def _at(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], dim=1)


def _hand(draws: _Draws) -> tuple[Tensor, Tensor]:
    """Fingers towards -y, the arm towards +y; the size is half the palm's width."""
    size, mirror = draws.take(0.07, 0.27), torch.sign(draws.take(-1, 1))
    spread, curl = draws.take(0.0, 0.35), draws.take(0.25, 1.0)
    slender = draws.take(0.85, 1.15)
    points, radii = [], []
    for x in (-0.48, 0.48):
        points.append([_at(x * size * mirror, 0.55 * size), _at(x * size * mirror, -0.6 * size)])
        radii.append([0.5 * size, 0.52 * size])
    for place, length in ((-0.75, 1.3), (-0.25, 1.6), (0.25, 1.55), (0.75, 1.2)):
        angle = spread * place + draws.take(-0.1, 0.1)
        reach = size * length * (curl + draws.take(-0.15, 0.15)).clamp(0.1, 1.1)
        base = _at(place * size * mirror, -0.85 * size)
        points.append([base, base + _at(torch.sin(angle) * mirror, -torch.cos(angle)) * reach[:, None]])
        radii.append([0.25 * size * slender, 0.19 * size * slender])
    thumb = draws.take(0.3, 1.2)
    base = _at(-0.75 * size * mirror, 0.3 * size)
    points.append([base, base + _at(-torch.sin(thumb) * mirror, -torch.cos(thumb)) * (1.35 * size)[:, None]])
    radii.append([0.34 * size, 0.2 * size])
    lean = draws.take(-0.5, 0.5)
    wrist = _at(0 * size, 0.9 * size)
    points.append([wrist, wrist + _at(torch.sin(lean), torch.cos(lean)) * (8 * size)[:, None]])
    radii.append([0.62 * size, 0.95 * size])
    return _fill(points, radii)


def _arm(draws: _Draws) -> tuple[Tensor, Tensor]:
    """A long limb or bar, perhaps with a bend."""
    thick, taper, bend = draws.take(0.03, 0.14), draws.take(0.7, 1.3), draws.take(-1.2, 1.2)
    first, second = draws.take(0.2, 1.5), draws.take(0.3, 1.5)
    elbow = 0 * thick
    points = [
        [_at(elbow, -first), _at(elbow, elbow)],
        [_at(elbow, elbow), _at(torch.sin(bend), torch.cos(bend)) * second[:, None]],
    ]
    return _fill(points, [[thick * taper, thick], [thick, thick * taper]])


def _microphone(draws: _Draws) -> tuple[Tensor, Tensor]:
    """A ball on a stick."""
    ball, oblong, stick = draws.take(0.04, 0.13), draws.take(0, 0.8), draws.take(0.25, 0.6)
    nought = 0 * ball
    points = [
        [_at(nought, nought), _at(nought, ball * oblong)],
        [_at(nought, ball * oblong), _at(nought, nought + 1.5)],
    ]
    return _fill(points, [[ball, ball], [ball * stick, ball * stick]])


def _blob(draws: _Draws) -> tuple[Tensor, Tensor]:
    """Three thick strokes between three points near one another."""
    size = draws.take(0.05, 0.17)
    corners = [draws.take(-1.2, 1.2, 2) * size[:, None] for _ in range(3)]
    thick = [draws.take(0.4, 1.0) * size for _ in range(3)]
    pairs = ((0, 1), (1, 2), (2, 0))
    return _fill([[corners[a], corners[b]] for a, b in pairs], [[thick[a], thick[b]] for a, b in pairs])


def _relief(cones: _Cones, size: int) -> tuple[Tensor, Tensor]:
    """(M, size, size) signed distance from the outline, negative inside, and height above it, in sides of the crop."""
    steps = (torch.arange(size, device=cones.starts.device) + 0.5) / size
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).view(1, 1, -1, 2)
    axis = (cones.ends - cones.starts)[:, :, None]
    away = pixels - cones.starts[:, :, None]
    along = ((away * axis).sum(-1) / (axis**2).sum(-1).clamp_min(1e-8)).clamp(0, 1)
    off = (away - along[..., None] * axis).norm(dim=-1)
    radii = torch.lerp(cones.start_radii[:, :, None], cones.end_radii[:, :, None], along)
    there = radii > 0
    distance = (off - radii).masked_fill(~there, 2).amin(dim=1)
    height = (radii**2 - off**2).clamp_min(0).sqrt().masked_fill(~there, 0).amax(dim=1)

    centre, sides, cos, sin = cones.box[:, None, :2], cones.box[:, None, 2:4], cones.box[:, 4:5], cones.box[:, 5:6]
    away = pixels[:, 0] - centre
    turned = torch.stack([cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]], -1)
    beyond = turned.abs() - sides
    box = beyond.clamp_min(0).norm(dim=-1) + beyond.amax(dim=-1).clamp_max(0)
    distance = torch.minimum(distance, torch.where(sides[..., 0] > 0, box, 2.0))
    return distance.view(-1, size, size), height.view(-1, size, size)


def _colours(draws: _Draws, tones: Tensor, dark: Tensor) -> Tensor:
    """(M, 3) colours: skin, the face's own `tones` (M, 3) or another's, black, any; microphones are mostly `dark`."""
    blend, own, surface = (draws.take(0, 1)[:, None] for _ in range(3))
    skin = torch.lerp(tones.new_tensor(_SKIN_PALE), tones.new_tensor(_SKIN_DARK), blend)
    skin = torch.where(own < 0.6, tones, skin) * torch.exp(draws.take(-0.35, 0.35))[:, None]
    skin = skin * torch.exp(draws.take(-0.1, 0.1, 3))
    black = draws.take(0.02, 0.25)[:, None] + draws.take(-0.02, 0.02, 3)
    surface = torch.where(dark[:, None], 0.62 + 0.3 * surface, surface)
    return torch.where(surface < 0.65, skin, torch.where(surface < 0.8, black, draws.take(0, 1, 3)))


def _pattern(draws: _Draws, look: Tensor, colours: Tensor, blotches: Tensor, size: int) -> Tensor:
    """(M, 3, size, size): the colours a little mottled, or a cloud of many."""
    mottle = draws.take(-0.1, 0.25).clamp_min(0).view(-1, 1, 1, 1)
    wide = _enlarge(blotches, size)
    picture = colours[:, :, None, None] * (1 + mottle * (2 * wide.mean(1, keepdim=True) - 1))
    cloudy = (look >= PIECES) & (look < 2 * PIECES)
    return torch.where(cloudy.view(-1, 1, 1, 1), wide, picture)


@lru_cache(maxsize=2)
def _grain_sheet(device: torch.device) -> Tensor:
    """(GRAIN, GRAIN) normal noise, the same in every process."""
    return torch.randn(GRAIN, GRAIN, generator=torch.Generator().manual_seed(0)).to(device)


def _grain(draws: _Draws, size: int) -> Tensor:
    """(M, 1, size, size) normal noise, each cut from another place of the sheet, around whose edges it goes on."""
    corners = draws.take(0, GRAIN, 2).long()
    steps = torch.arange(size, device=corners.device)
    rows, columns = ((corners[:, axis, None] + steps) % GRAIN for axis in (0, 1))
    return _grain_sheet(corners.device)[rows[:, :, None], columns[:, None, :]][:, None]


def _shade(draws: _Draws, height: Tensor) -> Tensor:
    """(M, 1, S, S) how bright the light and the sensor make each place."""
    # The light falls on a slope: the gradient of the height, a little rounded where the cones are steep.
    size = height.shape[-1]
    down, right = torch.gradient(F.avg_pool2d(height[:, None], 3, 1, 1)[:, 0], spacing=1 / size, dim=(1, 2))
    steep = torch.sqrt(1 + down**2 + right**2)
    azimuth, rise = draws.take(-math.pi, math.pi).view(-1, 1, 1), draws.take(0.3, 1.4).view(-1, 1, 1)
    toward = torch.cos(azimuth) * right + torch.sin(azimuth) * down
    lit = ((torch.sin(rise) - torch.cos(rise) * toward) / steep).clamp_min(0)
    ambient, rough = draws.take(0.25, 1.0).view(-1, 1, 1), draws.take(-0.03, 0.05).clamp_min(0).view(-1, 1, 1, 1)
    return (ambient + (1 - ambient) * lit * 1.2)[:, None] * (1 + rough * _grain(draws, size))


def _shadow(draws: _Draws, outline: Tensor, size: int) -> Tensor:
    """(M, 1, size, size) what is left of the light beside and behind the things."""
    shift = draws.take(-0.3, 0.3, 2)
    dim = draws.take(-0.4, 0.6).clamp_min(0).view(-1, 1, 1, 1)
    matrices = torch.eye(2, 3, device=outline.device).repeat(len(outline), 1, 1)
    matrices[:, :, 2] = shift
    grid = F.affine_grid(matrices, [len(outline), 1, size // 4, size // 4], align_corners=False)
    moved = F.grid_sample(F.avg_pool2d(outline, 2), grid, mode="bilinear", align_corners=False)
    soft = F.avg_pool2d(F.avg_pool2d(moved, 5, 1, 2), 5, 1, 2)
    return _enlarge(1 - dim * soft, size)

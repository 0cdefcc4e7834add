"""Figures about the faces of a set. An open faceset in; one number for each face, or what all of them say, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from realtime.frame import ImageU8
from training.contact_sheet import draw_contact_sheet, pick_evenly
from training.faceset import Faceset
from training.measures import Measures, measure

OF_RECORD = ("yaw", "pitch", "roll", "sharpness", "native_px", "score", "person", "source", "track", "pts_s")
OF_MEASURES = ("eyes", *(field.name for field in fields(Measures) if field.name != "light"))
OF_LIGHT = ("light", "light_right", "light_down", "light_front")
"""The parts of Measures.light in their order."""
FIGURES = (*OF_RECORD, *OF_MEASURES, *OF_LIGHT)
"""Everything that faces can be sorted by."""
COVERED = 0.1
"""A face of which more is hidden counts as covered."""
_PERCENTILES = (0, 5, 50, 95, 100)
_BIN_DEG = 15


@dataclass(frozen=True, slots=True)
class FacesetInfo:
    """What there is to know about a set."""

    faceset: str
    sha256: str
    damage: str
    """What is wrong with its files, one sentence; empty when every checksum fits."""
    faces: int
    kind: str
    size: int
    stored_size: int
    margin: float
    sources: tuple[dict[str, Any], ...]
    """name, fps, frames, faces and tracks of each."""
    tracks: int
    people: dict[str, int]
    """Faces of each person, by number."""
    figures: dict[str, dict[str, float]]
    """Least, 5 %, median, 95 % and greatest of each figure."""
    poses: tuple[tuple[int, int, int], ...]
    """Faces by pose: left edge of a cell in yaw, edge in pitch (15 degrees each), count."""
    covered_share: float
    """Share of the faces that something hides."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dump."""
        return asdict(self)


def measures_of(faceset: Faceset, tell: Callable[[int], None] | None = None) -> list[Measures]:
    """What the set says of each face, or, where it says nothing, what measuring its crop gives. Raises FacesetError."""
    stored = faceset.geometry.widened(faceset.margin)
    measured = []
    for i, record in enumerate(faceset.records):
        if tell:
            tell(i)
        try:
            measured.append(record.measures or measure(faceset.image(i), np.asarray(faceset.landmarks[i]), stored))
        except ValueError as error:
            where = faceset.path / record.file
            raise FacesetError(f"{where}: its mesh is no head; extract the videos again") from error
    return measured


def figure(faceset: Faceset, name: str, tell: Callable[[int], None] | None = None) -> NDArray[np.float64]:
    """(N,) one of FIGURES for every face. Raises ValueError for another name."""
    if name in OF_RECORD:
        return np.array([float(getattr(record, name)) for record in faceset.records])
    return _figure_of_measures(measures_of(faceset, tell), name)


def _figure_of_measures(measures: Sequence[Measures], name: str) -> NDArray[np.float64]:
    if name in OF_LIGHT:
        return np.array([each.light[OF_LIGHT.index(name)] for each in measures])
    if name not in OF_MEASURES:
        raise ValueError(f"there is no figure {name!r}, expected one of {FIGURES}")
    return np.array([float(getattr(each, name)) for each in measures])


def describe(faceset: Faceset, *, damage: str = "", tell: Callable[[int], None] | None = None) -> FacesetInfo:
    """Everything about a set. Of one with `damage` no picture is read: it says what its index says."""
    records = faceset.records
    measures = [each.measures for each in records if each.measures] if damage else measures_of(faceset, tell)
    shown = ("yaw", "pitch", "roll", "sharpness", "native_px")
    figures = {name: _spread(figure(faceset, name)) for name in shown}
    if measures:
        figures |= {name: _spread(_figure_of_measures(measures, name)) for name in (*OF_MEASURES, *OF_LIGHT)}
    faces = Counter(record.source for record in records)
    tracks = [{record.track for record in records if record.source == i} for i in range(len(faceset.sources))]
    people = Counter(record.person for record in records)
    poses = Counter((int(r.yaw // _BIN_DEG) * _BIN_DEG, int(r.pitch // _BIN_DEG) * _BIN_DEG) for r in records)
    return FacesetInfo(
        faceset=str(faceset.path),
        sha256=faceset.sha256,
        damage=damage,
        faces=len(faceset),
        kind=faceset.kind,
        size=faceset.geometry.size,
        stored_size=faceset.stored_size,
        margin=faceset.margin,
        sources=tuple(
            {"name": each.name, "fps": each.fps, "frames": each.frames, "faces": faces[i], "tracks": len(tracks[i])}
            for i, each in enumerate(faceset.sources)
        ),
        tracks=sum(map(len, tracks)),
        people={str(person): people[person] for person in sorted(people)},
        figures=figures,
        poses=tuple((yaw, pitch, poses[yaw, pitch]) for yaw, pitch in sorted(poses)),
        covered_share=round(sum(each.covered > COVERED for each in measures) / max(len(measures), 1), 4),
    )


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    names = ("least", "p5", "median", "p95", "greatest")
    return dict(zip(names, np.percentile(values, _PERCENTILES).round(4).tolist(), strict=True))


def lines(info: FacesetInfo) -> list[str]:
    """The same for people."""
    checked = "damaged" if info.damage else "every checksum fits"
    said = [
        f"{info.faceset}: {info.faces} faces, {info.kind}, {info.size} px (stored {info.stored_size} px), {checked}",
        f"  {info.tracks} tracks, {len(info.people)} {'person' if len(info.people) == 1 else 'people'}: "
        + ", ".join(f"{count} of number {person}" for person, count in list(info.people.items())[:8]),
        f"  {100 * info.covered_share:.0f} % of the faces are covered by something",
    ]
    for source in info.sources[:20]:
        said.append(
            f"  from {source['name']}: {source['faces']} faces in {source['tracks']} tracks, "
            f"{source['frames']} frames, {source['fps']:g} fps"
        )
    if len(info.sources) > 20:
        said.append(f"  and from {len(info.sources) - 20} more")
    said.append(f"  {'':12}{'least':>10}{'5 %':>10}{'median':>10}{'95 %':>10}{'greatest':>10}")
    for name, values in info.figures.items():
        said.append(f"  {name:12}" + "".join(f"{value:>10.4g}" for value in values.values()))
    return said


def draw_sheet(faceset: Faceset, most: int = 64) -> ImageU8:
    """A contact sheet of up to `most` faces from left to right profile, without the margin."""
    order = sorted(range(len(faceset)), key=lambda i: (faceset.records[i].yaw, i))
    picked = [order[i] for i in pick_evenly(len(order), most)]
    edge = (faceset.stored_size - faceset.geometry.size) // 2
    inner = slice(edge, edge + faceset.geometry.size)
    captions = [
        f"{i} yaw {faceset.records[i].yaw:+.0f} pitch {faceset.records[i].pitch:+.0f} "
        f"sharp {faceset.records[i].sharpness:.0f}"
        for i in picked
    ]
    return draw_contact_sheet([faceset.image(i)[inner, inner] for i in picked], captions)

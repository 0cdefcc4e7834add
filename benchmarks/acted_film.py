"""Films an actor for the benchmark of extraction, and makes long films of short ones. A folder in, videos out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from realtime.actors import BO, Actor, Renderer, motion
from realtime.frame import Frame
from realtime.source import BT709, SourceInfo
from realtime.video_file import VideoFile
from realtime.video_writer import VideoWriter

FPS, SEED = 30, 11


def act(work: Path, size: tuple[int, int], frames: int) -> Path:
    """The performance at that size, with its exact landmarks, (frames, 468, 2), beside it."""
    width, height = size
    path = work / f"performer-{width}x{height}-{frames}.mp4"
    if path.exists() and path.with_suffix(".npy").exists():
        return path
    poses = motion(frames, FPS, SEED)
    camera = Renderer(Actor(BO), width, height)
    info = SourceInfo("performer", width, height, Fraction(FPS), frames, live=False, colour=BT709)
    exact = []
    with VideoWriter(path, info) as writer:
        for index, pose in enumerate(poses):
            rendering = camera.render(pose, poses[index - 1] if index else None, frame=index)
            exact.append(rendering.truth.landmarks[:, :2])
            writer.send(Frame(rendering.image, index, index / FPS, index / FPS))
    np.save(path.with_suffix(".npy"), np.array(exact, np.float32), allow_pickle=False)
    return path


def repeat(source: Path, path: Path, minutes: float) -> Path:
    """The packets of a film again and again, for about so many minutes."""
    frames = count(source)
    with av.open(str(source)) as one, av.open(str(path), "w") as many:
        template = one.streams.video[0]
        stream = many.add_stream_from_template(template)
        length = round(frames / FPS / (template.time_base or Fraction(1, FPS)))
        for number in range(max(1, round(minutes * 60 * FPS / frames))):
            one.seek(0)
            for packet in one.demux(template):
                if packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts = packet.pts + number * length, packet.dts + number * length
                    packet.stream = stream
                    many.mux(packet)
    return path


def count(video: Path) -> int:
    """Frames of a film."""
    with VideoFile(video) as source:
        return source.info.frames or 0

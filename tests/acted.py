"""Short films of rendered actors for the tests of extraction. An identity in, pictures or a video out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from realtime.actors import NEUTRAL, Actor, Identity, Renderer, motion
from realtime.frame import ImageU8


def act(who: Identity, seed: int, frames: int) -> list[ImageU8]:
    """320x240 pictures of a talking actor, 30 a second."""
    camera = Renderer(Actor(who), 320, 240, supersample=1.0, background_seed=seed)
    return [camera.render(pose, frame=i).image for i, pose in enumerate(motion(frames, seed=seed, yaw=15, hand=False))]


def hold_still(who: Identity, frames: int) -> list[ImageU8]:
    """The same of one who does not move; the camera's noise does."""
    camera = Renderer(Actor(who), 320, 240, supersample=1.0)
    return [camera.render(NEUTRAL, frame=i).image for i in range(frames)]


def write_film(path: Path, images: Sequence[ImageU8], fps: int = 30) -> Path:
    """H.264 of high quality, with its index at the front where the container has one."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "12", "preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode(None))
    return path

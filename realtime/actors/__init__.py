"""Rendered actors: people who do not exist, perform on command, and come with the exact answer to every question.

In: an Identity and a Pose. Out: a picture, its 468 landmarks, masks and depth - and the same moment with another
identity's face, which is what a perfect swap would show.

    for frame in perform(Scene(performer=BO, identity=ADA, frames=300)):
        show(frame.performer.image, frame.ideal.image, frame.performer.truth.landmarks)

perform() renders on the calling thread; render_clip() does the same with several processes. One by one:

    camera = Renderer(Actor(ADA, body=BO, tone=1.0))
    rendering = camera.render(Pose(yaw=20, jaw=0.5))
"""

from realtime.actors.actor import Actor, Part
from realtime.actors.casting import random_identity
from realtime.actors.identity import ADA, BO, FaceShape, Identity
from realtime.actors.motion import motion
from realtime.actors.pose import NEUTRAL, Pose
from realtime.actors.render import Renderer, Rendering, Truth
from realtime.actors.scene import Scene, SwapFrame, perform, render_clip

__all__ = [
    "ADA",
    "BO",
    "NEUTRAL",
    "Actor",
    "FaceShape",
    "Identity",
    "Part",
    "Pose",
    "Renderer",
    "Rendering",
    "Scene",
    "SwapFrame",
    "Truth",
    "motion",
    "perform",
    "random_identity",
    "render_clip",
]

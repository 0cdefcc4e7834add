"""Rendered actors: people who do not exist, perform on command, and come with the exact answer to every question.

In: an Identity and a Pose. Out: a picture, its 468 landmarks, masks and depth - and the same moment with another
identity's face, which is what a perfect swap would show.

    actor = Actor(BO)
    ideal = Actor(ADA, body=BO, tone=1.0)
    for pose in motion(300):
        frame, answer = Renderer(actor).render(pose), Renderer(ideal).render(pose)
"""

from realtime.actors.actor import Actor
from realtime.actors.casting import random_identity
from realtime.actors.identity import ADA, BO, FaceShape, Identity
from realtime.actors.motion import NEUTRAL, Pose, motion
from realtime.actors.render import Part, Renderer, Rendering, Truth
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

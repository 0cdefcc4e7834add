"""Fits MediaPipe's Face Mesh. Image and Region in, presence and 468 or 478 landmarks out."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.face_nets import MODELS, FaceNet
from realtime.frame import ImageU8, Points
from realtime.region import Region


def _indices(text: str) -> NDArray[np.intp]:
    return np.array([int(word) for word in text.split()])


# The attention network refines these mesh points, in the order of its outputs.
_LIPS = _indices(
    "61 146 91 181 84 17 314 405 321 375 291 185 40 39 37 0 267 269 270 409 78 95 88 178 87 14 317 402 318 324 "
    "308 191 80 81 82 13 312 311 310 415 76 77 90 180 85 16 315 404 320 307 306 184 74 73 72 11 302 303 304 408 "
    "62 96 89 179 86 15 316 403 319 325 292 183 42 41 38 12 268 271 272 407"
)
_RIGHT_EYE = _indices(
    "33 7 163 144 145 153 154 155 133 246 161 160 159 158 157 173 130 25 110 24 23 22 26 112 243 247 30 29 27 28 "
    "56 190 226 31 228 229 230 231 232 233 244 113 225 224 223 222 221 189 35 124 46 53 52 65 143 111 117 118 119 "
    "120 121 128 245 156 70 63 105 66 107 55 193"
)
_LEFT_EYE = _indices(
    "263 249 390 373 374 380 381 382 362 466 388 387 386 385 384 398 359 255 339 254 253 252 256 341 463 467 260 "
    "259 257 258 286 414 446 261 448 449 450 451 452 453 464 342 445 444 443 442 441 413 265 353 276 283 282 295 "
    "372 340 346 347 348 349 350 357 465 383 300 293 334 296 336 285 417"
)
_LIDS = 16
"""The first points of an eye lie on the lids: their mean depth is the iris's, for which the network gives none."""


class FaceMesh:
    """Fits the mesh to one face. Not thread-safe: one instance per thread."""

    def __init__(self, *, refine: bool = False, threads: int = 1, folder: Path = MODELS) -> None:
        """`refine` takes the attention network: lips and eyes closer, irises added, at twice the time.

        Raises ModelError when the network cannot be used.
        """
        name = "face_landmark_with_attention" if refine else "face_landmark"
        self._net = FaceNet(name, mean=0.0, scale=1 / 255, threads=threads, folder=folder)
        self._refine = refine

    def fit(self, image: ImageU8, region: Region) -> tuple[float, Points]:
        """Presence of a face in [0, 1] and its (468 or 478, 3) landmarks in frame pixels, in a (H, W, 3) BGR image.

        The landmarks mean nothing where the presence is low.
        """
        outputs = self._net.run(region.sample(image, self._net.pixels, cv2.BORDER_REPLICATE))
        points = _refined_points(outputs) if self._refine else outputs["conv2d_21"].reshape(468, 3)
        logit = float(outputs["conv_faceflag" if self._refine else "conv2d_31"].ravel()[0])
        presence = 1 / (1 + math.exp(-min(max(logit, -100), 100)))
        return presence, region.to_frame(points, self._net.pixels)


def _refined_points(outputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """(478, 3) points: the mesh with its lips and eyes replaced, then five of each iris, right one first."""
    points = np.empty((478, 3), np.float32)
    points[:468] = outputs["output_mesh_identity"].reshape(468, 3)
    # MediaPipe names these outputs as the viewer sees them: its left eye is the person's right one.
    points[_LIPS, :2] = outputs["output_lips"].reshape(-1, 2)
    points[_RIGHT_EYE, :2] = outputs["output_left_eye"].reshape(-1, 2)
    points[_LEFT_EYE, :2] = outputs["output_right_eye"].reshape(-1, 2)
    points[468:473, :2] = outputs["output_left_iris"].reshape(5, 2)
    points[473:, :2] = outputs["output_right_iris"].reshape(5, 2)
    points[468:473, 2] = points[_RIGHT_EYE[:_LIDS], 2].mean()
    points[473:, 2] = points[_LEFT_EYE[:_LIDS], 2].mean()
    return points

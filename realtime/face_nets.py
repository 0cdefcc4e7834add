"""Opens the face networks that are shipped in realtime/models. (S, S, 3) pixels in, named arrays out.

They are MediaPipe's networks as ONNX; export/face_models.py made the files, realtime/models/README.md says from what.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.errors import ModelError
from realtime.frame import ImageU8

MODELS = Path(__file__).with_name("models")
"""The folder of the shipped networks."""


class FaceNet:
    """One network on ONNX Runtime's CPU engine. Not thread-safe: one instance per thread.

    One thread and no spinning by default: these networks take 2 to 6 ms, and on a busy machine threads that wait for
    each other cost more than they bring (2.6 ms became 7.1 ms with two).
    """

    def __init__(self, name: str, *, mean: float, scale: float, threads: int = 1, folder: Path = MODELS) -> None:
        """Open `folder`/`name`.onnx, which wants RGB as (value - mean) * scale.

        Raises ModelError when it cannot be used.
        """
        import onnxruntime

        path = folder / f"{name}.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base class for what it raises
            raise ModelError(f"the face network {path} is missing or damaged; install liveswap again") from error
        image = self._session.get_inputs()[0]
        self._input = image.name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._mean, self._scale = mean, scale
        self.pixels = int(image.shape[2])
        """Side of the square picture that the network takes."""

    def run(self, picture: ImageU8) -> dict[str, NDArray[np.float32]]:
        """All outputs by name for one (pixels, pixels, 3) BGR picture."""
        blob = cv2.dnn.blobFromImage(picture, self._scale, mean=(self._mean,) * 3, swapRB=True)
        return dict(zip(self._outputs, self._session.run(None, {self._input: blob}), strict=True))

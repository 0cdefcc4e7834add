"""Keeps what a run says about itself. Losses and looks in; TensorBoard events, history.json and sheets out.

Note [Journal]
    tensorboard/            event files, one for each start of the run: `tensorboard --logdir RUN` draws them
    history.json            a JSON list, one entry for each look at the held-out faces
    sheet.png               the newest sheet
    sheets/000000500.jpg    sheets of earlier looks, smaller; when there are more than 16, every second one goes

    Training matters more than its journal. Events are written by the loop itself, without a thread, into a buffer that
    goes to the disk with every look: a step costs some 0.05 ms. What cannot be written - a full disk, a folder that was
    removed - is said once, and training goes on; it is tried again with every look, so that a disk that was cleared in
    between is used again.

    A resumed run may begin before the last step that was written. TensorBoard is told so, and forgets the rest.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import cv2
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from realtime.files import explain, write_atomically

EVENTS, HISTORY, SHEET, SHEETS = "tensorboard", "history.json", "sheet.png", "sheets"
MOST_SHEETS = 16
SHEET_NAME = re.compile(r"[0-9]{9}\.jpg", re.ASCII)
_SHEET_WIDTH, _JPEG_QUALITY = 800, 85
_BUFFER_BYTES = 1 << 16
_NO_FIGURES = ("iteration", "elapsed_s")
_log = logging.getLogger(__name__)

Entry = dict[str, float]
"""One look: iteration and its figures."""


class Journal:
    """The journal of one run. A context manager; not thread-safe. Never raises OSError."""

    def __init__(self, run: Path, history: Sequence[Mapping[str, float]] = (), *, first: int = 0) -> None:
        """`history`: the looks of the run before it was interrupted; `first`: the last step it had taken by then."""
        self._run, self._first = run, first
        self.history: list[Entry] = [dict(entry) for entry in history]
        """Every look so far, oldest first; the checkpoint keeps it, too."""
        self._complained = self._began = False
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is in the buffer. Safe to call twice."""
        self._flush()
        self._drop()

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Keep `values` of one step by name, for example loss/pixel, rate, samples_per_s; those not finite are not."""
        if self._file is not None or not self._complained:
            self._event(iteration, _scalars(values))

    def look(self, iteration: int, figures: Mapping[str, float], sheet_png: bytes | None = None) -> None:
        """Keep one look: its figures in `history` and on disk, and the sheet (PNG) that was drawn of it.

        What is not finite is left out: JSON has no word for it. Looks of later steps are of a life that did not go on.
        """
        entry = {"iteration": float(iteration)}
        entry |= {k: float(v) for k, v in figures.items() if math.isfinite(v) and k != "iteration"}
        self.history = [*(e for e in self.history if e["iteration"] < iteration), entry]
        summary = _scalars({f"held_out/{name}": value for name, value in entry.items() if name not in _NO_FIGURES})
        if sheet_png is not None:
            summary.value.add(tag="sheet").image.encoded_image_string = sheet_png
        self._event(iteration, summary)
        self._flush()
        self._write(self._run / HISTORY, (json.dumps(self.history, indent=1) + "\n").encode())
        if sheet_png is not None:
            self._write(self._run / SHEET, sheet_png)
            self._keep_sheet(iteration, sheet_png)

    def _event(self, iteration: int, summary: Summary) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            self._record(self._file, Event(step=iteration, summary=summary))
        except OSError as error:
            self._drop()
            self._complain(error, self._run / EVENTS)

    def _open(self) -> BinaryIO:
        """Begin an event file; with the first one, TensorBoard is told which steps did not count."""
        folder = self._run / EVENTS
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"events.out.tfevents.{time.time_ns()}.liveswap", "xb", _BUFFER_BYTES)  # noqa: SIM115
        self._record(file, Event(file_version="brain.Event:2"))
        if not self._began:
            self._record(file, Event(step=self._first + 1, session_log=SessionLog(status=SessionLog.START)))
        self._began = True
        return file

    @staticmethod
    def _record(file: BinaryIO, event: Event) -> None:
        event.wall_time = time.time()
        RecordWriter(file).write(event.SerializeToString())

    def _flush(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            self._drop()
            self._complain(error, self._run / EVENTS)

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _keep_sheet(self, iteration: int, png: bytes) -> None:
        """A smaller copy of the sheet among those of earlier looks."""
        folder = self._run / SHEETS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = list_sheets(self._run)
            for path in [p for p in kept if int(p.stem) > iteration]:
                path.unlink()
            write_atomically(folder / f"{iteration:09d}.jpg", _smaller(png))
            kept = list_sheets(self._run)
            if len(kept) > MOST_SHEETS:
                for path in kept[1:-1:2]:
                    path.unlink()
        except OSError as error:
            self._complain(error, folder)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            self._complain(error, path)

    def _complain(self, error: OSError, path: Path) -> None:
        if not self._complained:
            _log.warning("the journal of this run has gaps, training goes on: %s", explain(error, path))
        self._complained = True


def list_sheets(run: Path) -> list[Path]:
    """The sheets of earlier looks, oldest first; the iteration is the stem of the name."""
    return sorted(path for path in (run / SHEETS).glob("*.jpg") if SHEET_NAME.fullmatch(path.name))


def _scalars(values: Mapping[str, float]) -> Summary:
    summary = Summary()
    for name, value in values.items():
        if math.isfinite(value):
            summary.value.add(tag=name, simple_value=value)
    return summary


def _smaller(png: bytes) -> bytes:
    """The picture as a JPEG that is not wider than needed to be looked at."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("the sheet is no PNG")
    scale = min(1.0, _SHEET_WIDTH / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError("OpenCV cannot write JPEG")
    return jpeg.tobytes()

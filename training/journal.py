"""Keeps what a run says about itself. Losses and looks in; TensorBoard events, history.json and sheets out.

Note [Journal]
    tensorboard/            event files, one for each start of the run: `tensorboard --logdir RUN` draws them;
                            sheets lie in a folder below, because who reads curves should not have to read pictures
    history.json            a JSON list, one entry for each look at the held-out faces
    sheet.png               the newest sheet
    sheets/000000500.jpg    sheets of up to 16 looks spread over the run, smaller

    Training matters more than its journal. Events are written by the loop itself, without a thread, into a buffer that
    goes to the disk with every look: a step costs some 0.05 ms, a look 30 for its sheet. What cannot be written - a
    full disk, a folder that was removed - is said once, and training goes on; it is tried again with every look, so
    that a disk that was cleared in between is used again.

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

from realtime.errors import TrainingError
from realtime.files import explain, write_atomically

EVENTS, HISTORY, SHEET, SHEETS = "tensorboard", "history.json", "sheet.png", "sheets"
MOST_SHEETS = 16
SHEET_NAME = re.compile(r"[0-9]{9}\.jpg", re.ASCII)
_SHEET_WIDTH, _JPEG_QUALITY = 800, 85
_BUFFER_BYTES = 1 << 16
_REPORT_PAUSE_S, _REPORT_SHARE = 60.0, 0.02
"""A report is written not more often than this, and takes not more than this share of the time."""
_NO_FIGURES = ("iteration", "elapsed_s")
_log = logging.getLogger(__name__)

Entry = dict[str, float]
"""One look: iteration and its figures."""


class _EventFile:
    """Event files in one folder; the newest is open once something was added. Not thread-safe."""

    def __init__(self, folder: Path, first: int) -> None:
        self.folder, self._first = folder, first
        self._began = self._resting = False
        self._file: BinaryIO | None = None

    def add(self, event: Event) -> None:
        """Append one event to the buffer. Raises OSError; then nothing more is kept until the next `flush`."""
        if self._resting:
            return
        try:
            if self._file is None:
                self._file = self._open()
            self._write(event)
        except OSError:
            self.drop()
            self._resting = True
            raise

    def flush(self) -> None:
        """Bring the buffer to the disk, or, after an error, begin anew with the next event. Raises OSError."""
        self._resting = False
        try:
            if self._file is not None:
                self._file.flush()
        except OSError:
            self.drop()
            raise

    def drop(self) -> None:
        """Close the file, whether or not that succeeds. Safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _open(self) -> BinaryIO:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.liveswap"
        self._file = open(self.folder / name, "xb", _BUFFER_BYTES)  # noqa: SIM115 - closed by drop
        self._write(Event(file_version="brain.Event:2"))
        if not self._began:  # TensorBoard is told which steps did not count
            self._write(Event(step=self._first + 1, session_log=SessionLog(status=SessionLog.START)))
        self._began = True
        return self._file

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        RecordWriter(self._file).write(event.SerializeToString())


class Journal:
    """The journal of one run. A context manager; not thread-safe. Never raises OSError."""

    def __init__(self, run: Path, history: Sequence[Mapping[str, float]] = (), *, first: int = 0) -> None:
        """`history`: the looks of the run before it was interrupted; `first`: the last step it had taken by then."""
        self._run = run
        self.history: list[Entry] = [dict(entry) for entry in history]
        """Every look so far, oldest first; the checkpoint keeps it, too."""
        self._curves = _EventFile(run / EVENTS, first)
        self._pictures = _EventFile(run / EVENTS / SHEETS, first)
        self._complained = False
        self._next_report_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is in the buffer. Safe to call twice."""
        self._flush()
        self._curves.drop()
        self._pictures.drop()

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Keep `values` of one step by name, for example loss/pixel, rate, samples_per_s; those not finite are not."""
        self._event(self._curves, iteration, _scalars(values))

    def look(self, iteration: int, figures: Mapping[str, float], sheet_png: bytes | None = None) -> None:
        """Keep one look: its figures in `history` and on disk, and the sheet (PNG) that was drawn of it.

        What is not finite is left out: JSON has no word for it. Looks of later steps are of a life that did not go on.
        """
        entry = {"iteration": float(iteration)}
        entry |= {k: float(v) for k, v in figures.items() if math.isfinite(v) and k != "iteration"}
        self.history = [*(e for e in self.history if e["iteration"] < iteration), entry]
        figures = {f"held_out/{name}": value for name, value in entry.items() if name not in _NO_FIGURES}
        self._event(self._curves, iteration, _scalars(figures))
        self._write(self._run / HISTORY, (json.dumps(self.history, indent=1) + "\n").encode())
        if sheet_png is not None:
            self._write(self._run / SHEET, sheet_png)
            self._keep_sheet(iteration, _smaller(sheet_png))
        self._flush()

    def report(self, *, final: bool = False) -> None:
        """Write RUN/report.html, see training.run_report; unless `final`, not so often that training feels it."""
        began_s = time.monotonic()
        if not final and began_s < self._next_report_s:
            return
        from training.run_report import write_report

        self._flush()
        try:
            write_report(self._run)
        except TrainingError as error:
            self._complain(str(error))
        spent_s = time.monotonic() - began_s
        self._next_report_s = began_s + max(_REPORT_PAUSE_S, spent_s / _REPORT_SHARE)

    def _event(self, file: _EventFile, iteration: int, summary: Summary) -> None:
        try:
            file.add(Event(step=iteration, summary=summary))
        except OSError as error:
            self._complain(explain(error, file.folder))

    def _flush(self) -> None:
        for file in (self._curves, self._pictures):
            try:
                file.flush()
            except OSError as error:
                self._complain(explain(error, file.folder))

    def _keep_sheet(self, iteration: int, jpeg: bytes) -> None:
        """A smaller copy of the sheet among those of earlier looks, and for TensorBoard."""
        summary = Summary()
        summary.value.add(tag="sheet").image.encoded_image_string = jpeg
        self._event(self._pictures, iteration, summary)
        folder = self._run / SHEETS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            undone = [path for path in list_sheets(self._run) if int(path.stem) > iteration]
            for path in [*undone, *folder.glob(".*.part.jpg")]:  # of a life that did not go on, or that was killed
                path.unlink()
            write_atomically(folder / f"{iteration:09d}.jpg", jpeg)
            kept = list_sheets(self._run)
            if len(kept) > MOST_SHEETS:  # the one whose neighbours are closest is missed least
                steps = [int(path.stem) for path in kept]
                kept[min(range(1, len(kept) - 1), key=lambda i: steps[i + 1] - steps[i - 1])].unlink()
        except OSError as error:
            self._complain(explain(error, folder))

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            self._complain(explain(error, path))

    def _complain(self, why: str) -> None:
        if not self._complained:
            _log.warning("the journal of this run has gaps, training goes on: %s", why)
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

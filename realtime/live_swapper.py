"""Swaps while somebody turns knobs. Frames and changes in, SwapResults out; what went in can be recorded.

A change takes effect between two frames, so that a recording knows before which frame it came, and a replay repeats it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from realtime.align import CropGeometry
from realtime.blend import BlendSettings
from realtime.controls import Knobs
from realtime.dfm import Dfm
from realtime.errors import LiveswapError
from realtime.frame import Frame
from realtime.infer import Engine, open_engine
from realtime.recorder import InputRecorder
from realtime.source import SourceInfo
from realtime.swap import FaceSwapper, SwapResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adjust:
    """Other knobs."""

    knobs: Knobs

    def to_dict(self) -> dict[str, Any]:
        """For a recording."""
        return {"adjust": asdict(self.knobs)}


@dataclass(frozen=True, slots=True)
class ChooseAt:
    """The face at a point, in pixels of the frame, becomes the performer."""

    x: float
    y: float

    def to_dict(self) -> dict[str, Any]:
        """For a recording."""
        return {"choose_at": [self.x, self.y]}


@dataclass(frozen=True, slots=True)
class NextFace:
    """The next face becomes the performer."""

    def to_dict(self) -> dict[str, Any]:
        """For a recording."""
        return {"next_face": True}


@dataclass(frozen=True, slots=True, eq=False)
class UseModel:
    """Another model, already opened."""

    engine: Engine

    def to_dict(self) -> dict[str, Any]:
        """For a recording."""
        return {"model": str(self.engine.dfm.path), "sha256": self.engine.dfm.sha256}


Change = Adjust | ChooseAt | NextFace | UseModel


class LiveSwapper:
    """A FaceSwapper that takes changes between two frames. Not thread-safe, but for appending to `changes`."""

    def __init__(
        self,
        swapper: FaceSwapper,
        geometry: Callable[[Dfm], CropGeometry],
        changes: deque[Change],
        *,
        open_recorder: Callable[[SourceInfo], InputRecorder] | None = None,
        script: Callable[[], Iterable[tuple[int, Mapping[str, Any]]]] | None = None,
    ) -> None:
        """`geometry`: what a model sees of a head. `changes`: what others append takes effect before the next frame.

        `script`: changes to repeat, each before the frame with that index. It and `open_recorder` are asked once, when
        the source is open.
        """
        self._swapper, self._geometry = swapper, geometry
        self._open_recorder, self._open_script = open_recorder, script
        self._recorder: InputRecorder | None = None
        self._script: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._pending = changes
        self.lost_recording: str | None = None
        """Why the recording ended before the run did."""

    @property
    def provider(self) -> str:
        """What runs the model, as the engine says."""
        return self._swapper.provider

    def swap(self, frame: Frame) -> SwapResult:
        """Take what was posted, record, swap."""
        while self._script and self._script[0][0] <= frame.index:
            self._repeat(self._script.popleft()[1])
        while self._pending:
            change = self._pending.popleft()
            self._note(change)
            self._apply(change)
        self._record(lambda recorder: recorder.record(frame))
        return self._swapper.swap(frame)

    def close(self) -> None:
        """Close the recording, the swapper and models that came too late; safe to call twice."""
        try:
            self._record(InputRecorder.close)
        finally:
            self._swapper.close()
            while self._pending:
                change = self._pending.popleft()
                if isinstance(change, UseModel):
                    change.engine.close()

    def begin(self, info: SourceInfo) -> None:
        """Open the recording and the script for a source. Raises SinkError when nothing can be recorded."""
        if self._open_recorder:
            self._recorder = self._open_recorder(info)
        if self._open_script:
            self._script.extend(sorted(self._open_script(), key=lambda event: event[0]))

    def _note(self, change: Change) -> None:
        self._record(lambda recorder: recorder.note(change.to_dict()))

    def _record(self, do: Callable[[InputRecorder], None]) -> None:
        """Record if somebody wants it; a recording that breaks ends, and the run goes on without it."""
        if self._recorder is None:
            return
        try:
            do(self._recorder)
        except LiveswapError as error:
            self.lost_recording = str(error)
            broken, self._recorder = self._recorder, None
            with suppress(LiveswapError):
                broken.close()
            _log.error("the input is not recorded any more: %s", error)

    def _apply(self, change: Change) -> None:
        match change:
            case Adjust(knobs):
                self._swapper.adjust(knobs.blend, knobs.morph)
            case ChooseAt(x, y):
                self._swapper.choose_at(x, y)
            case NextFace():
                self._swapper.next_face()
            case UseModel(engine):
                self._swapper.change_engine(engine, self._geometry(engine.dfm)).close()

    def _repeat(self, event: Mapping[str, Any]) -> None:
        """Apply a recorded change; the file may come from anybody, so what makes no sense is passed over, and said."""
        try:
            self._apply(self._read(event))
        except (LiveswapError, KeyError, TypeError, ValueError) as error:
            _log.warning("a recorded change was left out: %s", error)

    @staticmethod
    def _read(event: Mapping[str, Any]) -> Change:
        if "adjust" in event:
            knobs = event["adjust"]
            return Adjust(Knobs(BlendSettings(**knobs["blend"]), float(knobs["morph"])))
        if "choose_at" in event:
            x, y = map(float, event["choose_at"])
            return ChooseAt(x, y)
        if "next_face" in event:
            return NextFace()
        engine = open_engine(Path(str(event["model"])))
        if engine.dfm.sha256 != event["sha256"]:
            engine.close()
            raise ValueError(f"the model {event['model']} is not the one that was used")
        return UseModel(engine)

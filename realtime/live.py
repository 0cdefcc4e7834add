"""Runs what a LiveConfig asks for. LiveConfig in, RunReport out: opens the rooms and puts them together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime import __version__
from realtime.align import CropGeometry
from realtime.badge import Badge
from realtime.capture import SourceOptions, is_live, kind_of, open_source
from realtime.config import LiveConfig
from realtime.controls import Knobs, help_lines
from realtime.credential import open_credential
from realtime.desk import Desk
from realtime.detect import FACES_IN_VIEW, FaceFinder
from realtime.dfm import Dfm, read_dfm
from realtime.errors import LiveswapError, UsageError
from realtime.guard import Guard, OnMiss
from realtime.infer import OnnxEngine, open_engine
from realtime.keyboard import Keyboard
from realtime.live_swapper import Change, LiveSwapper
from realtime.microphone import Microphone
from realtime.outlet import SinkFactory
from realtime.pace import PacedSource
from realtime.pipeline import Pipeline
from realtime.plain_text import plain
from realtime.presets import default_path
from realtime.provenance import Provenance, Statement
from realtime.recorder import InputRecorder
from realtime.replay import ReplaySource
from realtime.report import Progress, RunReport
from realtime.run_log import RunLog
from realtime.sink import Sink
from realtime.sinks import is_file, is_watched, open_sink
from realtime.sinks import kind_of as kind_of_sink
from realtime.sound import Sounding
from realtime.source import Source, SourceInfo
from realtime.swap import FaceSwapper
from realtime.video_writer import VideoWriter
from realtime.waiver import Waivers

if TYPE_CHECKING:
    from realtime.preview import Preview

_log = logging.getLogger(__name__)

_SEARCH_EVERY = 5
"""Frames from one search for further faces to the next."""
_WINDOW_S, _TERMINAL_S = 1 / 60, 0.1
"""How often a window, or only the terminal, is looked after."""


class Live:
    """One run, with its controls. Made, run and ended on the main thread."""

    def __init__(
        self,
        config: LiveConfig,
        *,
        geometry: Callable[[Dfm], CropGeometry],
        stop: threading.Event | None = None,
        tell: Callable[[str], None] = _log.info,
        announce: Callable[[Dfm], None] = lambda model: None,
    ) -> None:
        """`geometry`: what a model sees of a head, by the user's wish. Raises UsageError, ModelError.

        `tell` takes what the person at the controls shall read, `announce` each model that takes over.
        """
        self._config, self._geometry, self._stop = config, geometry, stop
        self._tell, self._announce = tell, announce
        self._models = [read_dfm(path) for path in (config.model, *config.more_models)]
        self.model, *_ = self._used = self._models[:1]
        self._crop = geometry(self.model)
        for model in self._models[1:]:
            geometry(model)
        self._log = RunLog(config.run_log)
        self._began_s, self._done = 0.0, 0
        if not config.badge and (unconfirmed := Waivers().missing(self._models)):
            names = ", ".join(model.path.name for model in unconfirmed)
            raise UsageError(f"nobody has confirmed that {names} may be shown without the AI mark; leave it on")
        self._credential = cache(partial(open_credential, config.signing_certificate, config.signing_key))
        if not config.keep.is_dir():
            raise UsageError(f"the folder {config.keep} for recordings and stills does not exist; make it first")
        self._presets = config.presets or default_path()
        self._knobs = Knobs(config.blend, config.morph)
        self._swapper: LiveSwapper | None = None
        self._deaf: str | None = None
        shown_live = all(is_watched(spec) for spec in config.sinks)
        self.writes_files = any(is_file(spec) for spec in config.sinks)
        """Whether somebody will look for a file afterwards."""
        if self.writes_files or config.signing_certificate is not None:
            self._credential()  # what cannot be signed is better known before than after
        source = Path(config.source) if kind_of(config.source) == "video" else None
        self._provenance = Provenance(self._credential, self._statement, source)
        if config.loop and self.writes_files:
            raise UsageError(
                "a loop has no end and would fill the disk; leave out --loop, or send it to preview or null"
            )
        self._paced = not is_live(config.source) and shown_live
        self.live = self._paced or is_live(config.source)
        """Whether time runs on when nobody reads."""
        self._replay: ReplaySource | None = None
        self._sounds = config.microphone is not None
        self._changes: deque[Change] = deque()
        self._preview: Preview | None = None
        self._pipeline = self._make_pipeline()
        self.desk = self._make_desk()
        """The controls."""

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> RunReport:
        """Run to the end. Raises the first error of any room."""
        self._began_s = time.monotonic()
        self._log.begin(self._told())
        report: RunReport | None = None
        failure: BaseException | None = None
        try:
            report = self._run(on_progress)
            return report
        except BaseException as error:
            failure = error
            raise
        finally:
            self._log.end(self._outcome(report, failure))

    def _run(self, on_progress: Callable[[Progress], None] | None) -> RunReport:
        if self._preview_wanted:
            from realtime.preview import Preview

            self._preview = Preview()
        try:
            with Keyboard() as keyboard:
                self._pipeline.start()
                if self._config.microphone is not None:
                    self._pipeline.aside("microphone", self._listen)

                def look_after(progress: Progress) -> None:
                    self._done = progress.done
                    self._look_after(progress, keyboard)
                    if on_progress is not None:
                        on_progress(progress)

                every_s = _WINDOW_S if self._preview else _TERMINAL_S
                return self._with_losses(self._pipeline.wait(look_after, self._stop, every_s=every_s))
        finally:
            if self._preview:
                self._preview.close()

    def _with_losses(self, report: RunReport) -> RunReport:
        """The report with what else was lost on the way."""
        lost = {"microphone": self._deaf, "input": self._swapper.lost_recording if self._swapper else None}
        return replace(report, failed_sinks=report.failed_sinks | {name: why for name, why in lost.items() if why})

    # --- what is told about the run ---

    def _told(self) -> dict[str, Any]:
        """For the log, see Note [Run log]."""
        config = self._config
        return {
            "version": __version__,
            "models": [{"sha256": each.sha256, "subject": each.says("subject") or None} for each in self._models],
            "source": kind_of(config.source),
            "sinks": [kind_of_sink(spec) for spec in config.sinks],
            "badge": config.badge,
            "on_miss": config.on_miss,
            "records_input": config.record_input is not None,
        }

    def _outcome(self, report: RunReport | None, failure: BaseException | None) -> dict[str, Any]:
        kept = [path.suffix for path in self.desk.kept if path.exists()]
        told: dict[str, Any] = {
            "badge": self._config.badge,
            "seconds": round(time.monotonic() - self._began_s, 3),
            "frames_in": self._done,
            "recordings": kept.count(".mp4"),
            "stills": kept.count(".png"),
            "failure": None if failure is None else type(failure).__name__,
        }
        if report is not None:
            told |= {
                "seconds": report.seconds,
                "frames_in": report.frames_in,
                "frames_out": report.frames_out,
                "swapped": report.states.get("live", 0),
                "raw": report.raw_face_frames,
                "failed_sinks": len(report.failed_sinks),
            }
        return told

    def _statement(self) -> Statement:
        """What a manifest says; the models are those that were shown until now."""
        models = tuple(
            {"name": plain(each.path.name), "sha256": each.sha256}
            | {name: each.says(name) for name in ("subject", "consent", "licence") if each.says(name)}
            for each in self._used
        )
        return Statement(__version__, models, kind_of(self._config.source), self._config.badge)

    def _takes_over(self, model: Dfm) -> None:
        if model.sha256 not in {each.sha256 for each in self._used}:
            self._used.append(model)
        self._announce(model)

    # --- what the main thread does meanwhile ---

    def _look_after(self, progress: Progress, keyboard: Keyboard) -> None:
        from realtime.preview import Click, Closed, Key

        desk = self.desk
        for key in keyboard.read():
            desk.press(key)
        desk.watch()
        if self._preview is None:
            return
        lines = help_lines() if desk.help else None
        for event in self._preview.pump(progress, desk.notes(), hud=desk.hud, help_lines=lines):
            match event:
                case Key(char):
                    desk.press(char)
                case Click(x, y):
                    desk.click(x, y)
                case Closed():
                    self._pipeline.stop()

    # --- rooms ---

    @property
    def _preview_wanted(self) -> bool:
        return "preview" in self._config.sinks

    def _make_pipeline(self) -> Pipeline:
        config = self._config
        return Pipeline(
            self._open_source,
            self._open_swapper,
            [self._sink_factory(spec) for spec in config.sinks],
            guard_factory=lambda info: Guard(OnMiss(config.on_miss), config.hold_ms, live=info.live),
            lossless=not self.live,
            badge=config.badge,
            language=config.badge_language,
            latency_cap_ms=config.latency_cap_ms,
        )

    def _make_desk(self) -> Desk:
        config = self._config
        return Desk(
            self._pipeline,
            self._changes.append,
            self._knobs,
            models=(config.model, *config.more_models),
            open_model=self._open_engine,
            open_video=self._open_video,
            seal=self._provenance,
            keep=config.keep,
            presets=self._presets,
            preset=config.preset,
            tell=self._tell,
            announce=self._takes_over,
        )

    def _open_source(self) -> Source:
        config = self._config
        width, height = config.size or (None, None)
        options = SourceOptions(
            width=width,
            height=height,
            fps=config.fps,
            seek_s=config.seek_s,
            loop=config.loop,
            images_fps=config.fps or SourceOptions().images_fps,
            mirror=config.mirror,
        )
        source = open_source(config.source, options)
        if isinstance(source, ReplaySource):
            self._replay = source
        if self._config.microphone is None and isinstance(source, Sounding) and source.has_sound:
            source.listen(self._pipeline.hear)
            self._sounds = True
        return PacedSource(source) if self._paced else source

    def _open_swapper(self) -> LiveSwapper:
        config = self._config
        # Where nobody's face may be seen, whoever comes in has to be noticed at once.
        nobody_raw = config.face == "all" or config.bystanders == "blur"
        swapper = FaceSwapper(
            FaceFinder(max_faces=FACES_IN_VIEW, detect_every=1 if nobody_raw else _SEARCH_EVERY),
            self._open_engine(config.model),
            blend=self._knobs.blend,
            morph=self._knobs.morph,
            smooth=config.smooth,
            geometry=self._crop,
            live=self.live,
            face=config.face,
            bystanders=config.bystanders,
        )
        self._swapper = LiveSwapper(
            swapper,
            self._geometry,
            self._changes,
            open_recorder=self._open_recorder if config.record_input else None,
            script=self._script,
        )
        return self._swapper

    def _script(self) -> Iterable[tuple[int, Mapping[str, Any]]]:
        return self._replay.events if self._replay else ()

    def _open_engine(self, path: Path) -> OnnxEngine:
        return open_engine(path, threads=self._config.threads)

    def _open_recorder(self, info: SourceInfo) -> InputRecorder:
        config = self._config
        assert config.record_input is not None
        settings = {
            "model": config.model.name,
            "sha256": self.model.sha256,
            "face": config.face,
            "bystanders": config.bystanders,
            "knobs": asdict(self._knobs),
        }
        return InputRecorder(config.record_input, info, settings)

    def _sink_factory(self, spec: str) -> SinkFactory:
        def open_it(info: SourceInfo) -> Sink:
            if spec == "preview" and self._preview is not None:
                return self._preview.sink(info)
            badge = Badge(self._config.badge_language) if self._config.badge else None
            return open_sink(spec, info, sound=self._sounds, seal=self._provenance, badge=badge)

        return open_it

    def _open_video(self, path: Path, info: SourceInfo) -> Sink:
        return VideoWriter(path, replace(info, audio_path=None), sound=self._sounds, seal=self._provenance)

    def _listen(self) -> None:
        """Hand the microphone's sound to the sinks; on a thread of its own, until the run ends."""
        name = self._config.microphone
        try:
            with Microphone(None if name == "default" else name) as microphone:
                while (origin_s := self._pipeline.origin_s) is None and not self._pipeline.ending:
                    time.sleep(0.01)
                for block in microphone.blocks(origin_s or 0.0):
                    if self._pipeline.ending:
                        return
                    self._pipeline.hear(block)
        except LiveswapError as error:
            self._deaf = str(error)
            self.desk.say(f"{error}; the picture goes on without sound")

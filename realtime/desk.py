"""Acts on keys and clicks. What the person at the controls does in, changes of the run out; tells what it did."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from realtime.controls import Action, Knobs, action_for, help_lines, turn
from realtime.dfm import Dfm
from realtime.errors import LiveswapError
from realtime.infer import Engine
from realtime.live_swapper import Adjust, Change, ChooseAt, NextFace, UseModel
from realtime.mailbox import MailboxClosed
from realtime.outlet import Outlet
from realtime.pipeline import Pipeline
from realtime.presets import load_presets, next_name, save_preset
from realtime.provenance import Seal
from realtime.sink import Sink
from realtime.source import SourceInfo
from realtime.still import Still

_log = logging.getLogger(__name__)

_MESSAGE_S = 4.0
"""How long a message stays on the screen."""


class Desk:
    """The controls of one run. Lives on the main thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        post: Callable[[Change], None],
        knobs: Knobs,
        *,
        models: Sequence[Path],
        open_model: Callable[[Path], Engine],
        open_video: Callable[[Path, SourceInfo], Sink],
        seal: Seal,
        keep: Path,
        presets: Path,
        preset: str | None = None,
        tell: Callable[[str], None] = _log.info,
        announce: Callable[[Dfm], None] = lambda model: None,
    ) -> None:
        """`models`: the one that runs, then those to change to. `keep`: the folder for stills and recordings.

        `seal` signs the stills.

        `tell`: takes what the person shall read, `announce` each model that takes over; both from any thread.
        """
        self._pipeline, self._post = pipeline, post
        self._initial = self._knobs = knobs
        self._models, self._model, self._loading = list(models), 0, False
        self._open_model, self._open_video, self._seal = open_model, open_video, seal
        self._keep, self._presets, self._preset = keep, presets, preset
        self._tell, self._announce = tell, announce
        self.kept: list[Path] = []
        """Recordings and stills that were begun."""
        self._recording: Outlet | None = None
        self._recording_s = 0.0
        self._still: tuple[Outlet, Still] | None = None
        self._message, self._message_s = "", -_MESSAGE_S
        self.panic = False
        self.help = False
        """Whether the list of keys shall be shown."""
        self.hud = True
        """Whether figures shall be shown."""

    @property
    def knobs(self) -> Knobs:
        """As they stand now."""
        return self._knobs

    def notes(self) -> list[str]:
        """Lines for the person at the controls."""
        notes = [f"model {self._models[self._model].name}" + (", loading another" if self._loading else "")]
        if self._preset:
            notes.append(f"preset {self._preset}")
        if self._recording:
            minutes, seconds = divmod(int(time.monotonic() - self._recording_s), 60)
            notes.append(f"recording {minutes}:{seconds:02}")
        if time.monotonic() - self._message_s < _MESSAGE_S:
            notes.append(self._message)
        return notes

    def say(self, message: str) -> None:
        """Show a message for some seconds; safe from any thread."""
        self._message, self._message_s = message, time.monotonic()
        self._tell(message)

    def click(self, x: float, y: float) -> None:
        """The face at (x, y), pixels of the frame, becomes the performer."""
        self._post(ChooseAt(x, y))
        self.say("the face at the click, if there is one, is swapped now")

    def press(self, key: str) -> None:
        """Do what a key means; nothing for keys without meaning."""
        action = action_for(key)
        if action is None:
            return
        try:
            self._act(action, key)
        except LiveswapError as error:
            self.say(str(error))
        except MailboxClosed:
            self.say("the run is ending")

    def watch(self) -> None:
        """Notice what ended by itself: a still that was kept, a recording that broke. Call it now and then."""
        if self._still and (self._still[1].saved or self._still[0].error):
            outlet, still = self._still
            self._pipeline.remove_sink(outlet)
            self._still = None
            self.say(str(outlet.error) if outlet.error else f"kept {still.name}")
        if self._recording and self._recording.error:
            self.say(f"the recording ended: {self._recording.error}")
            self._recording = None

    def _act(self, action: Action, key: str) -> None:
        match action:
            case Action.QUIT:
                self._pipeline.stop()
            case Action.PANIC:
                self.panic = not self.panic
                self._pipeline.panic(self.panic)
                self.say("panic: only the card goes out; the same key ends it" if self.panic else "live again")
            case Action.HELP:
                self.help = not self.help
                if self.help:
                    self._tell("\n".join(help_lines()))
            case Action.HUD:
                self.hud = not self.hud
            case Action.RECORD:
                self._stop_recording() if self._recording else self._record()
            case Action.STILL:
                self._keep_still()
            case Action.NEXT_MODEL | Action.PREVIOUS_MODEL:
                self._load(1 if action is Action.NEXT_MODEL else -1)
            case Action.NEXT_PRESET:
                self._next_preset()
            case Action.SAVE_PRESET:
                self._preset = next_name(load_presets(self._presets))
                save_preset(self._presets, self._preset, self._knobs)
                self.say(f"saved the preset {self._preset}")
            case Action.NEXT_FACE:
                self._post(NextFace())
                self.say("the next face, if there is one, is swapped now")
            case Action.RESET:
                self._turn_to(self._initial)
                self.say("all knobs as at the start")
            case _:
                before = self._knobs
                self._turn_to(turn(before, key))
                self.say(_difference(before, self._knobs))

    def _turn_to(self, knobs: Knobs) -> None:
        if knobs != self._knobs:
            self._knobs = knobs
            self._post(Adjust(knobs))

    def _next_preset(self) -> None:
        presets = load_presets(self._presets)
        if not presets:
            self.say(f"there are no presets yet in {self._presets}")
            return
        names = list(presets)
        self._preset = names[(names.index(self._preset) + 1) % len(names) if self._preset in names else 0]
        self._turn_to(presets[self._preset])
        self.say(f"preset {self._preset}")

    def _record(self) -> None:
        path = self._unused("mp4")
        self._recording = self._pipeline.add_sink(partial(self._open_video, path), path.name)
        self.kept.append(path)
        self._recording_s = time.monotonic()
        self.say(f"recording into {path.name}")

    def _stop_recording(self) -> None:
        if self._recording:
            self._pipeline.remove_sink(self._recording)
            self.say(f"kept {self._recording.name}")
        self._recording = None

    def _keep_still(self) -> None:
        if self._still is None:
            path = self._unused("png")
            still = Still(path, self._seal)
            self._still = self._pipeline.add_sink(lambda _: still, path.name), still
            self.kept.append(path)

    def _unused(self, ending: str) -> Path:
        """A name in the folder for what is kept that nobody has."""
        name = f"liveswap-{datetime.now():%Y%m%d-%H%M%S}"
        paths = (self._keep / f"{name}{f'-{count}' if count else ''}.{ending}" for count in range(1000))
        return next(path for path in paths if not path.exists())

    def _load(self, step: int) -> None:
        if len(self._models) < 2:
            self.say("there is one model only; give --model several times to change between them")
            return
        if self._loading:
            self.say("a model is being loaded already")
            return
        self._loading = True
        number = (self._model + step) % len(self._models)
        self.say(f"loading {self._models[number].name}")
        self._pipeline.aside("load model", partial(self._load_aside, number))

    def _load_aside(self, number: int) -> None:
        """Open a model beside the one that runs; on a thread of its own."""
        path = self._models[number]
        try:
            engine = self._open_model(path)
            if self._pipeline.ending:
                engine.close()
                return
            self._post(UseModel(engine))
            self._model = number
            self.say(f"model {path.name}")
            self._announce(engine.dfm)
        except LiveswapError as error:
            self.say(f"{error}; the model before it stays")
        except Exception as error:
            _log.debug("a model did not load", exc_info=error)
            self.say(f"{path.name} did not load ({error}); the model before it stays")
        finally:
            self._loading = False


def _difference(before: Knobs, after: Knobs) -> str:
    for old, new in ((before.blend, after.blend), (before, after)):
        for name in new.__dataclass_fields__:
            value = getattr(new, name)
            if name != "blend" and value != getattr(old, name):
                return f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
    return "this knob goes no further"

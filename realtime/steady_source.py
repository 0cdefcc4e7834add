"""Keeps a live source alive. Whatever opens a source in; its Frames out, of one size, over cuts, stalls and garbage."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

from realtime.errors import LiveswapError, SourceError
from realtime.frame import Frame, check_image
from realtime.letterbox import letterbox
from realtime.sound import SoundBlock, Sounding
from realtime.source import Source

_log = logging.getLogger(__name__)

GIVE_UP_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
GARBAGE_IN_A_ROW = 100
"""So many broken pictures without a good one count as a cut."""
_STEP_S = 1e-4
"""The least by which times grow."""
_END = object()


class SteadySource:
    """A source that is opened again when it breaks or ends. Not thread-safe, except for close().

    The first opening fails at once: a mistake should be told. After a cut the source is tried again after 0.5 s, 1 s,
    2 s, ... at most 8 s, until `give_up_s` have gone by without a picture. Index and pts_s go on growing over a cut,
    pts_s by the time that it lasted; pictures of another size are fitted into the first one. A source that knows its
    length has ended when it ends in order.
    """

    def __init__(
        self,
        opener: Callable[[], Source],
        *,
        give_up_s: float | None = GIVE_UP_S,
        first_wait_s: float = FIRST_WAIT_S,
        longest_wait_s: float = LONGEST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Open the source. `give_up_s`: None for never; `clock`, `sleep`: for tests. Raises what `opener` raises."""
        self._opener, self._give_up_s = opener, give_up_s
        self._first_wait_s, self._longest_wait_s, self._clock = first_wait_s, longest_wait_s, clock
        self._over = threading.Event()
        self._sleep = self._over.wait if sleep is None else sleep
        self._hear: Callable[[SoundBlock], None] | None = None
        self._next_index, self._index_shift = 0, 0
        self._pts_shift_s: float | None = 0.0
        self._last_pts_s, self._last_s, self._origin_s = -_STEP_S, clock(), 0.0
        self._away, self._wait_s = False, first_wait_s
        self.cuts = 0
        """How often the source was lost."""
        self.garbage = 0
        """Broken pictures that were dropped."""
        self._inner = opener()
        self.info = self._inner.info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_sound(self) -> bool:
        """Whether the source that was opened first brings sound with its frames."""
        return isinstance(self._inner, Sounding) and self._inner.has_sound

    def listen(self, hear: Callable[[SoundBlock], None]) -> None:
        """Call `hear` with the sound of the source, after a cut, too; see Sounding."""
        self._hear = hear
        if isinstance(self._inner, Sounding):
            self._inner.listen(self._pass_on)

    def close(self) -> None:
        """End, also while waiting; safe to call twice and from another thread."""
        self._over.set()
        self._inner.close()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until close(). Raises SourceError when the source stays away for too long."""
        while not self._over.is_set():
            try:
                yield from self._good_frames()
                if self.info.frames is not None:
                    return
                reason = "it ended"
            except SourceError as error:
                reason = str(error)
            if not self._over.is_set():
                self._open_again(reason)

    def _good_frames(self) -> Iterator[Frame]:
        """What the source delivers until it ends, but for broken pictures."""
        frames: Iterator[object] = iter(self._inner)
        in_a_row = 0
        while not self._over.is_set():
            try:
                frame = next(frames, _END)
                if frame is _END:
                    return
                if not isinstance(frame, Frame):
                    raise ValueError(f"{type(frame).__name__} is no frame")
                check_image(frame.image)
            except ValueError as error:
                self.garbage += 1
                in_a_row += 1
                if in_a_row == 1:
                    _log.warning("%s delivered a broken picture, which is left out: %s", self.info.name, error)
                if in_a_row >= GARBAGE_IN_A_ROW:
                    raise SourceError(f"{self.info.name} delivers nothing but broken pictures; check it") from error
                continue
            in_a_row = 0
            if not self._over.is_set():
                yield self._continued(frame)

    def _continued(self, frame: Frame) -> Frame:
        """The frame as one that follows all before, in the size of the first."""
        if self._away:
            self._welcome(frame)
        pts_s = max(self._placed(frame.pts_s), self._last_pts_s + _STEP_S)
        index = max(frame.index + self._index_shift, self._next_index)
        if self._next_index == 0:
            self._origin_s = self._clock() - pts_s
        self._last_pts_s, self._next_index, self._last_s = pts_s, index + 1, self._clock()
        image = letterbox(frame.image, self.info.width, self.info.height)
        return replace(frame, image=image, index=index, pts_s=pts_s)

    def _placed(self, pts_s: float) -> float:
        if self._pts_shift_s is None:  # the first picture or sound after a cut
            self._pts_shift_s = max(self._clock() - self._origin_s, self._last_pts_s + _STEP_S) - pts_s
        return pts_s + self._pts_shift_s

    def _pass_on(self, block: SoundBlock) -> None:
        if self._hear is not None:
            self._hear(replace(block, pts_s=self._placed(block.pts_s)))

    def _welcome(self, frame: Frame) -> None:
        self._away = False
        height, width = frame.image.shape[:2]
        other = f", as {width}x{height} now" if (width, height) != (self.info.width, self.info.height) else ""
        away_s = self._clock() - self._last_s
        _log.warning("%s is back after %.1f s%s", self.info.name, away_s, other)

    def _open_again(self, reason: str) -> None:
        """Return when the source is open, or after close(). Raises SourceError after `give_up_s`."""
        self._inner.close()
        give_up_s = math.inf if self._give_up_s is None else self._give_up_s
        if not self._away:
            self._away, self._wait_s = True, self._first_wait_s
            self.cuts += 1
            until = "" if self._give_up_s is None else f" for {give_up_s:g} s"
            _log.warning(
                "%s is lost (%s); trying to get it back%s", self.info.name, _cause(reason, self.info.name), until
            )
        while (left_s := self._last_s + give_up_s - self._clock()) > 0:
            self._sleep(min(self._wait_s, left_s))
            self._wait_s = min(2 * self._wait_s, self._longest_wait_s)
            if self._over.is_set():
                return
            try:
                self._inner = self._opener()
            except LiveswapError as error:
                reason = str(error)
                continue
            self._pts_shift_s, self._index_shift = None, self._next_index
            if self._over.is_set():
                self._inner.close()
            elif self._hear is not None:
                self.listen(self._hear)
            return
        why = _cause(reason, self.info.name)
        raise SourceError(f"{self.info.name} stayed away for {give_up_s:g} s ({why}); check it and start again")


def _cause(sentence: str, name: str) -> str:
    """An error's sentence without its remedy and without the name that was said before."""
    return sentence.partition(";")[0].replace(name, "it")

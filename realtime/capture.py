"""Opens sources of frames. What the user typed in, a Source out."""

from __future__ import annotations

from pathlib import Path

from realtime.errors import UsageError
from realtime.source import Source
from realtime.video_file import VideoFile


def open_source(spec: str) -> Source:
    """Open what the user named: the path of a video, `pattern` (until stopped) or `pattern:SECONDS`, both live.

    Raises UsageError for what is not supported and SourceError for what cannot be read.
    """
    if not spec:
        raise UsageError("no source was given; add --source with the path of a video, or pattern")
    kind, _, rest = spec.partition(":")
    if kind == "pattern":
        from realtime.pattern import PatternSource

        return PatternSource(seconds=_seconds(rest) if rest else None, live=True)
    if (spec.isdigit() or kind in ("camera", "screen") or "://" in spec) and not Path(spec).exists():
        asked = "a camera" if spec.isdigit() or kind == "camera" else kind
        raise UsageError(f"{asked} is not supported as a source yet; give the path of a video, or pattern")
    return VideoFile(Path(spec))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"pattern:{text} is not a duration; write for example pattern:10 for ten seconds")
    return seconds

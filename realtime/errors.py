"""What can go wrong, as one tree.

    LiveswapError        exit code 1: a failure while running
    |- UsageError        exit code 2: a mistake in the call
    |- SourceError       a camera, a video or a stream cannot be read
    |- SinkError         an output cannot be written
    |- ModelError        a .dfm or a face network cannot be used
    |- FacesetError      a faceset is missing, damaged or empty
    |- TrainingError     a run cannot start, resume or go on
    '- ExportError       a checkpoint cannot become a .dfm

Every message is one sentence that ends with the remedy: it is printed as it is.
"""


class LiveswapError(Exception):
    """Base of all errors that a user can meet; `exit_code` is the exit code of the command."""

    exit_code = 1


class UsageError(LiveswapError):
    """The command was called with something that cannot work."""

    exit_code = 2


class SourceError(LiveswapError):
    """A source of frames cannot be opened or read."""


class SinkError(LiveswapError):
    """A sink cannot be opened or written."""


class ModelError(LiveswapError):
    """A model file cannot be used."""


class FacesetError(LiveswapError):
    """A faceset cannot be read or written."""


class TrainingError(LiveswapError):
    """A training run cannot start, resume or go on."""


class ExportError(LiveswapError):
    """A checkpoint cannot be turned into a model file."""

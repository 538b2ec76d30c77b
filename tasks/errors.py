"""The errors that Verbatim raises on purpose.

Every message says where, what must hold, what was got, and what to type next.
"""


class VerbatimError(Exception):
    """Stop with a message that a user can act on; a stage prints it without a traceback."""


class ParamsError(VerbatimError):
    """A value in `params.yaml` is missing, unknown or out of range."""


class DataValidationError(VerbatimError):
    """The data is absent, unreadable, or breaks an expectation."""


class GateError(VerbatimError):
    """The model was evaluated and is not good enough to be registered."""


class StageError(VerbatimError):
    """A stage's process ended without finishing its work."""


class TemporaryError(StageError):
    """Something outside failed that may be back when tried again."""


class Interrupted(StageError):  # noqa: N818 - the work is not wrong, it waits to be taken up again
    """A stage was asked to stop by a signal, and kept what it could of its work."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal

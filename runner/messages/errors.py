"""The errors that people read: one line each, and the exit code that goes with them."""

import difflib
from collections.abc import Iterable
from typing import Self

from runner.messages.redaction import without_noted


class RunnerError(Exception):
    """What went wrong, told in lines for a person; the command line leaves with `exit_code`."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(without_noted, lines))
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        """Return what makes the same error in another process."""
        return type(self), self.lines


class UserError(RunnerError):
    """A mistake in what was asked for: nothing has been recorded."""

    exit_code = 2


class FunctionError(UserError):
    """The user's own function raises, where it was called with a point that it might take."""


class RecordingError(RunnerError):
    """The descent went well, its record did not; the journal keeps what is missing."""


class SweepError(RunnerError):
    """Some jobs of a sweep failed; the others are recorded."""


class DivergedError(RunnerError):
    """A run, or some jobs of a sweep, diverged where `fail_on_divergence` is true; all are recorded."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; ends a run as Ctrl-C does."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the allowed name most like `name`, or nothing."""
    names = {text.lower(): text for text in allowed}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean '{names[close[0]]}'?" if close else ""


def one_line(error: BaseException) -> str:
    """Return an error's type and message, where it has one, in one line."""
    try:
        text = str(error)
    except Exception:  # a class of a stranger's may fail at this, too
        text = ""
    message = without_noted(" ".join(text.split()))[:200]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__

"""Errors for users: their lines, and the exit code of each class."""

import difflib
from collections.abc import Iterable
from typing import Self

from runner.messages.redaction import without_noted


class RunnerError(Exception):
    """An error with lines for the user; the command line exits with `exit_code`."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(without_noted, lines))
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        """Return the arguments that recreate the error in another process."""
        return type(self), self.lines


class UserError(RunnerError):
    """A mistake in the request; nothing has been recorded."""

    exit_code = 2


class FunctionError(UserError):
    """The user's own function raises an exception at a point where it is evaluated."""


class RecordingError(RunnerError):
    """The run finished, but not all of it could be recorded; the journal keeps the rest."""


class SweepError(RunnerError):
    """Some jobs of a sweep failed; the others are recorded."""


class DivergedError(RunnerError):
    """A run, or some jobs of a sweep, diverged where `fail_on_divergence` is true; all are recorded."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; ends a run as Ctrl-C does."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the allowed name closest to `name`, or nothing."""
    names = {text.lower(): text for text in allowed}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean '{names[close[0]]}'?" if close else ""


def one_line(error: BaseException) -> str:
    """Return the type and message of an error in one line; the lines of an error for users as they are."""
    if isinstance(error, RunnerError):
        return "; ".join(error.lines)
    try:
        text = str(error)
    except Exception:  # the class of another program's error may fail here too
        text = ""
    message = without_noted(" ".join(text.split()))[:200]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__

"""Shows where in the user's code an error was raised: the last frames in one line, or the whole traceback if asked."""

import os
import traceback
from collections.abc import Sequence

from runner.messages.errors import one_line
from runner.process.user_code import RUNNER, is_packaged, is_user_code

FRAMES = 3
FULL_ERROR = "HYDRA_FULL_ERROR"

_is_wanted: bool | None = None


def set_tracebacks(is_wanted: bool | None) -> None:
    """Show whole tracebacks or not; None lets the environment variable decide."""
    global _is_wanted
    _is_wanted = is_wanted


def shows_tracebacks() -> bool:
    """Return whether whole tracebacks are shown."""
    return os.environ.get(FULL_ERROR) == "1" if _is_wanted is None else _is_wanted


def described(error: BaseException, is_brief: bool = False) -> str:
    """Return an error's type and message in one line, and the lines of the user's code that raised it.

    Args:
        error: the error.
        is_brief: only the first sentence of the message.
    """
    line = one_line(error)
    if is_brief:
        line = line.partition(". ")[0]
    places = [_place(frame) for frame in _frames(error)[-FRAMES:]]
    return line + (f" (at {', from '.join(reversed(places))})" if places else "")


def traceback_hint() -> str:
    """Return the end of an error line that says how to see the whole traceback; empty where it is shown."""
    return "" if shows_tracebacks() else f"; {FULL_ERROR}=1 shows the whole traceback"


def show_traceback(error: BaseException) -> None:
    """Print the whole traceback if tracebacks are shown."""
    if shows_tracebacks():
        traceback.print_exception(error)


def _frames(error: BaseException) -> Sequence[traceback.FrameSummary]:
    """Return the frames of the user's code, or of the installed package that holds the user's function."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_user_code(frame.filename)]
    # Leave out the frames of torch between the runner and the function.
    others = [frame for frame in frames if not frame.filename.startswith(RUNNER) and is_packaged(frame.filename)]
    return own or [frame for frame in others if f"{os.sep}torch{os.sep}" not in frame.filename]


def _place(frame: traceback.FrameSummary) -> str:
    path = os.path.relpath(frame.filename) if frame.filename.startswith(os.getcwd() + os.sep) else frame.filename
    return f"{path}:{frame.lineno}" + ("" if frame.name == "<module>" else f" in {frame.name}")

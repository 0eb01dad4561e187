"""Where in the user's own code an error comes from: the last frames in its line, and its whole traceback on demand."""

import os
import traceback
from collections.abc import Sequence

from runner.messages.errors import one_line
from runner.process.user_code import OURS, is_packaged, is_user_code

FRAMES = 3
FULL_ERROR = "HYDRA_FULL_ERROR"

_is_wanted: bool | None = None


def want_tracebacks(is_wanted: bool | None) -> None:
    """Show whole tracebacks or not, whatever the environment says; None where it decides."""
    global _is_wanted
    _is_wanted = is_wanted


def wants_tracebacks() -> bool:
    """Return whether whole tracebacks are to be shown."""
    return os.environ.get(FULL_ERROR) == "1" if _is_wanted is None else _is_wanted


def told(error: BaseException, is_brief: bool = False) -> str:
    """Return an error's type and message in one line, and from which lines of the user's own code it comes.

    Args:
        error: the error.
        is_brief: the first sentence of its message is enough.
    """
    line = one_line(error)
    if is_brief:
        line = line.partition(". ")[0]
    places = [_place(frame) for frame in _frames(error)[-FRAMES:]]
    return line + (f" (at {', from '.join(reversed(places))})" if places else "")


def on_demand() -> str:
    """Return how to see whole tracebacks, to follow a line, where they are not shown."""
    return "" if wants_tracebacks() else f"; {FULL_ERROR}=1 shows the whole traceback"


def show_traceback(error: BaseException) -> None:
    """Print the whole traceback where that is wanted."""
    if wants_tracebacks():
        traceback.print_exception(error)


def _frames(error: BaseException) -> Sequence[traceback.FrameSummary]:
    """Return the frames of the user's own code, or of the installed package that the user's function is of."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_user_code(frame.filename)]
    # Of what we have called, all but what stands between us and it.
    others = [frame for frame in frames if not frame.filename.startswith(OURS) and is_packaged(frame.filename)]
    return own or [frame for frame in others if f"{os.sep}torch{os.sep}" not in frame.filename]


def _place(frame: traceback.FrameSummary) -> str:
    path = os.path.relpath(frame.filename) if frame.filename.startswith(os.getcwd() + os.sep) else frame.filename
    return f"{path}:{frame.lineno}" + ("" if frame.name == "<module>" else f" in {frame.name}")

"""Exits the process: at once if only the runner uses it, else as Python does, after threads and exit handlers."""

import atexit
import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from runner.process import signals
from runner.process.user_code import is_user_code

COMMAND = "runner"
# The functions of `python -m` that call a program's main module.
CALLERS = [("runpy", "_run_code"), ("runpy", "_run_module_as_main")]

_runs_user_code = False


def expect_user_code() -> None:
    """Say that the user's code runs in this process, so that it exits as Python does."""
    global _runs_user_code
    _runs_user_code = True


def is_program(main: FrameType) -> bool:
    """Return whether the frame is that of `python -m runner` or of the installed command, not called by other code."""
    if threading.current_thread() is not threading.main_thread():
        return False
    callers = list(_callers(main))
    if not callers or callers[0].f_code.co_name != "<module>":
        return False
    top, names = callers[0].f_globals, [(one.f_globals.get("__name__"), one.f_code.co_name) for one in callers[1:]]
    if top is not vars(sys.modules["__main__"]):
        return False
    if top.get("__spec__") is not None:
        return names == CALLERS
    script = Path(str(top.get("__file__")))
    return not names and script.stem == COMMAND and script.parent == Path(sys.executable).parent


def _callers(frame: FrameType) -> Iterator[FrameType]:
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame


def has_hooks() -> bool:
    """Return whether a profiler, a debugger or an exit handler is active in this process, which has just started."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = () if monitoring is None else map(monitoring.get_tool, range(6))
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or any(tool is not None for tool in tools)
        or atexit._ncallbacks() > 0
        or bool(sys.flags.interactive or os.environ.get("PYTHONINSPECT") or os.environ.get("LD_PRELOAD"))
    )


def exit_process(code: int, is_free: bool) -> None:
    """Exit the process with a code; return if other code continues afterwards and the code is 0.

    Args:
        code: the exit code.
        is_free: at the start, no other code had called the runner or hooked into the process.

    Raises:
        SystemExit: the code is not 0, and other code has to finish.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader has gone, or the disk is full
            stream.flush()
    if is_free and not _has_other_code():
        os._exit(code)  # unloading torch takes a tenth of the time of a short run
    if code != 0:
        sys.exit(code)


def _has_other_code() -> bool:
    """Return whether threads, processes or modules of other code exist, which have to end with Python."""
    multiprocessing = sys.modules.get("multiprocessing")
    # A launcher of Hydra's may have left worker processes that keep stdout open.
    has_workers = multiprocessing is not None and bool(multiprocessing.active_children())
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if _runs_user_code or has_workers or any(not thread.daemon for thread in threads):
        return True
    # `__dict__` does not trigger modules that load lazily.
    others = [module for module in list(sys.modules.values()) if module is not sys.modules["__main__"]]
    return any(is_user_code(getattr(module, "__dict__", {}).get("__file__")) for module in others)


@contextlib.contextmanager
def restored_state() -> Iterator[None]:
    """Restore signal handlers, arguments, environment and stdout for code that runs after the runner."""
    arguments, full_error = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    errors = sys.stdout.errors if isinstance(sys.stdout, io.TextIOWrapper) else None
    try:
        with signals.restored():
            yield
    finally:
        sys.argv[:] = arguments
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=errors)

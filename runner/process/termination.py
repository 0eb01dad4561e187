"""Leaving: at once where the process is ours alone, and as any program does where others have something to finish."""

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
# What `python -m` itself has called when it calls a program's main module.
CALLERS = [("runpy", "_run_code"), ("runpy", "_run_module_as_main")]

_has_guests = False


def expect_guests() -> None:
    """Take it that code of the user's runs in this process, wherever it comes from."""
    global _has_guests
    _has_guests = True


def is_program(main: FrameType) -> bool:
    """Return whether nobody has called us, whose frame this is: the process is `python -m runner`, or the command."""
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
    """Return whether somebody measures, debugs or waits for the end of this process, which has just begun."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = () if monitoring is None else map(monitoring.get_tool, range(6))
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or any(tool is not None for tool in tools)
        or atexit._ncallbacks() > 0
        or bool(sys.flags.interactive or os.environ.get("PYTHONINSPECT") or os.environ.get("LD_PRELOAD"))
    )


def leave(code: int, is_free: bool) -> None:
    """End the process with an exit code; return where others go on after us, all having gone well.

    Args:
        code: the exit code.
        is_free: nobody had called or hooked us at the start.

    Raises:
        SystemExit: the code is not 0, and others have something to finish.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it, or the disk is full
            stream.flush()
    if is_free and not _others_finish():
        os._exit(code)  # taking torch down module by module would take a tenth of a short run's time
    if code != 0:
        sys.exit(code)


def _others_finish() -> bool:
    """Return whether others than we have threads, processes or modules here that the end of Python finishes."""
    multiprocessing = sys.modules.get("multiprocessing")
    # One of Hydra's launchers may have left processes that wait for more work, and hold our output open.
    has_workers = multiprocessing is not None and bool(multiprocessing.active_children())
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if _has_guests or has_workers or any(not thread.daemon for thread in threads):
        return True
    # Looked up so, no module is loaded that loads itself late.
    others = [module for module in list(sys.modules.values()) if module is not sys.modules["__main__"]]
    return any(is_user_code(getattr(module, "__dict__", {}).get("__file__")) for module in others)


@contextlib.contextmanager
def visiting() -> Iterator[None]:
    """Leave signals, arguments, environment and the printing of texts as they were, for whoever goes on after us."""
    arguments, full_error = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    errors = sys.stdout.errors if isinstance(sys.stdout, io.TextIOWrapper) else None
    try:
        with signals.given_back():
            yield
    finally:
        sys.argv[:] = arguments
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=errors)

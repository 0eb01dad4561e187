"""Handles Ctrl-C and SIGTERM: the first ends the run, a second one exits the process at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from runner.messages.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[signal.Signals] = []
_owns_process = False


def exit_on_signal() -> None:
    """Exit the process at a signal, before a run has begun; the process belongs to the runner alone."""
    global _owns_process
    _owns_process = True
    _set_handler(_exit)


def handle() -> None:
    """Handle SIGTERM, and SIGINT unless the parent process ignores it."""
    _received.clear()
    _set_handler(_handle)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore the signal handlers afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if _is_main_thread():
            for number, handler in before.items():
                if handler is not None:  # installed from Python
                    signal.signal(number, handler)


def _is_main_thread() -> bool:
    """Return whether this thread can handle signals."""
    return threading.current_thread() is threading.main_thread()


def _set_handler(handler: Callable[[int, FrameType | None], None]) -> None:
    if not _is_main_thread():
        return
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def check() -> None:
    """Raise the exception of a signal again, in case a library has swallowed it.

    Raises:
        KeyboardInterrupt: SIGINT was received; `Terminated` for SIGTERM.
    """
    if _received:
        _raise(_received[0])


def _handle(number: int, _frame: FrameType | None) -> None:
    received = signal.Signals(number)
    if received in _received and _owns_process:
        _exit(number)  # the recorder records the rest of the journal
    _received.append(received)
    _raise(received)


def _exit(number: int, _frame: FrameType | None = None) -> None:
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    when = (
        ": exited at once; python -m runner.replay records what is missing" if _received else " before anything was run"
    )
    with contextlib.suppress(OSError):  # stderr is closed
        os.write(2, f"error: {word}{when}\n".encode())
    os._exit(128 + number)


def _raise(received: signal.Signals) -> None:
    raise Terminated if received is signal.SIGTERM else KeyboardInterrupt

"""Being stopped: Ctrl-C and SIGTERM end what runs, and a second one ends the process at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from runner.messages.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[signal.Signals] = []
_is_process_ours = False


def leave_at_once() -> None:
    """Let a signal end the process, which is ours, while there is nothing to put an end to."""
    global _is_process_ours
    _is_process_ours = True
    _take(_leave)


def listen() -> None:
    """Take SIGTERM, and SIGINT unless whoever started us ignores it."""
    _received.clear()
    _take(_handle)


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """Take signals as before once this ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if _is_heard():
            for number, handler in before.items():
                if handler is not None:  # one that Python knows
                    signal.signal(number, handler)


def _is_heard() -> bool:
    """Return whether signals reach this thread."""
    return threading.current_thread() is threading.main_thread()


def _take(handler: Callable[[int, FrameType | None], None]) -> None:
    if not _is_heard():
        return
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def check() -> None:
    """Raise again what a signal has raised, in case a library has swallowed it.

    Raises:
        KeyboardInterrupt: SIGINT has come; `Terminated` where it was SIGTERM.
    """
    if _received:
        _raise(_received[0])


def _handle(number: int, _frame: FrameType | None) -> None:
    received = signal.Signals(number)
    if received in _received and _is_process_ours:
        _leave(number)  # the journal keeps what is not recorded, and the recorder brings it home
    _received.append(received)
    _raise(received)


def _leave(number: int, _frame: FrameType | None = None) -> None:
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    when = (
        ": left at once; python -m runner.replay records what is missing" if _received else " before anything was run"
    )
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"error: {word}{when}\n".encode())
    os._exit(128 + number)


def _raise(received: signal.Signals) -> None:
    raise Terminated if received is signal.SIGTERM else KeyboardInterrupt

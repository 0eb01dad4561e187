"""Being stopped: Ctrl-C and SIGTERM end what runs, and a second one ends the process at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType

from runner.errors import Terminated

_received: list[signal.Signals] = []


def leave_at_once() -> None:
    """Let a signal end the process without a word, while there is nothing yet to put an end to."""
    _take(lambda number, _frame: os._exit(128 + number))


def listen() -> None:
    """Take SIGTERM, and SIGINT unless whoever started us ignores it."""
    _received.clear()
    _take(_handle)


def _take(handler: Callable[[int, FrameType | None], None]) -> None:
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
    if received in _received:
        os._exit(128 + number)  # the journal keeps what is not recorded, and the recorder brings it home
    _received.append(received)
    _raise(received)


def _raise(received: signal.Signals) -> None:
    raise Terminated if received is signal.SIGTERM else KeyboardInterrupt

"""A progress bar in a terminal or a notebook: how much is done, the speed, the loss and the time left."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from runner.console.notebook import NotebookBar, in_notebook

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress, TaskID
    from rich.text import Text

NO_BARS = ("dumb", "unknown")
SHORTEST, LONGEST = 5, 40
SPACE = "  "
BAR, DONE, LEFT = "bar", "━", "╌"
ASCII = str.maketrans({DONE: "#", LEFT: "-"})
UNKNOWN = "-:--:--"


def is_terminal() -> bool:
    """Return whether standard output is a terminal; in a notebook or a service there may be no standard output."""
    return hasattr(sys.stdout, "isatty") and sys.stdout.isatty()


def has_bars() -> bool:
    """Return whether output can be redrawn, as a progress bar needs: by a terminal, or in a notebook."""
    return (is_terminal() and os.environ.get("TERM", "").lower() not in NO_BARS) or in_notebook()


class Bar:
    """A progress bar, redrawn several times a second until it is stopped."""

    def __init__(self, total: int, completed: int = 0, unit: str = "steps") -> None:
        """Draw the bar.

        Args:
            total: the amount of work.
            completed: how much of it is done already.
            unit: the unit of both, for the speed; empty to show no speed.
        """
        self._state = State(total, completed)
        self._line: _Line = (_InNotebook if in_notebook() else _InTerminal)(self._state, unit)

    def show(self, completed: int, count: str, found: str = "") -> None:
        """Update the bar.

        Args:
            completed: how much is done.
            count: the same in words; left out first on a narrow terminal.
            found: the best loss, or what else is known so far.
        """
        self._state.count, self._state.found = count, found
        self._line.update(completed)

    def set_total(self, total: int) -> None:
        """Change the amount of work."""
        self._state.total = total

    def stop(self) -> None:
        """Remove the bar."""
        self._line.stop()


@dataclass
class State:
    """The parts of the line, of which as many are shown as fit the width."""

    total: int
    completed: int
    count: str = ""
    rate: str = ""
    found: str = ""
    left: str = UNKNOWN

    def fitting(self, width: int) -> tuple[Sequence[str], int]:
        """Return the parts that fit the width, BAR standing for the bar, and the length of the bar."""
        percent = f"{100 * self.completed // max(self.total, 1)}%"
        choices = [
            [self.count, BAR, self.rate, self.found, self.left],
            [percent, BAR, self.rate, self.found, self.left],
            [percent, BAR, self.found, self.left],
            [percent, self.found, self.left],
            [self.found, self.left],
        ]
        for choice in choices:
            pieces = [piece for piece in choice if piece]
            room = width - sum(len(piece) for piece in pieces if piece != BAR) - len(SPACE) * (len(pieces) - 1)
            if room >= (SHORTEST if BAR in pieces else 0):
                return pieces, min(room, LONGEST)
        return [self.found], 0

    def line(self, width: int) -> str:
        """Return the line as plain text."""
        pieces, room = self.fitting(width)
        done = room * self.completed // max(self.total, 1)
        return SPACE.join(DONE * done + LEFT * (room - done) if piece == BAR else piece for piece in pieces)[:width]


class _Line(Protocol):
    def update(self, completed: int) -> None: ...
    def stop(self) -> None: ...


class _InTerminal:
    def __init__(self, state: State, unit: str) -> None:
        self._state = state
        self._progress, self._task = _start(state, unit)

    def update(self, completed: int) -> None:
        self._progress.update(self._task, completed=completed, total=self._state.total)

    def stop(self) -> None:
        self._progress.stop()


class _InNotebook:
    def __init__(self, state: State, unit: str) -> None:
        self._state, self._unit = state, unit
        self._first, self._began = state.completed, time.monotonic()
        self._bar = NotebookBar()

    def update(self, completed: int) -> None:
        state, seconds = self._state, time.monotonic() - self._began
        state.completed, done = completed, completed - self._first
        if done > 0 and seconds > 0:
            state.rate = f"{done / seconds:,.0f} {self._unit}/s" if self._unit else ""
            state.left = str(timedelta(seconds=int((state.total - completed) * seconds / done)))
        parts = (state.count, state.rate, state.found, state.left)
        self._bar.show(completed / max(state.total, 1), SPACE.join(part for part in parts if part))

    def stop(self) -> None:
        self._bar.stop()


def _start(state: State, unit: str) -> "tuple[Progress, TaskID]":
    from rich.progress import Progress
    from rich.text import Text

    class Line:
        def __rich_console__(self, _console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
            text = state.line(options.max_width)
            line = Text(text.translate(ASCII) if options.ascii_only else text, no_wrap=True, end="")
            line.highlight_regex(f"{DONE}+", "bar.complete")
            yield line

    class Lines(Progress):
        def get_renderables(self) -> "Iterator[RenderableType]":
            for task in self.tasks:
                state.completed = int(task.completed)
                state.rate = f"{task.speed:,.0f} {unit}/s" if unit and task.speed is not None else ""
                state.left = (
                    UNKNOWN if task.time_remaining is None else str(timedelta(seconds=int(task.time_remaining)))
                )
                yield Line()

    progress = Lines()
    task = progress.add_task("", total=state.total, completed=state.completed)
    progress.start()
    return progress, task

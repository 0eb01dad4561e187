"""A progress bar that fits the width of the terminal: how much is done, the speed, the loss and the time left."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

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
    """Return whether standard output is a terminal that can redraw a line, as a progress bar needs."""
    return is_terminal() and os.environ.get("TERM", "").lower() not in NO_BARS


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
        self._progress, self._task = _start(self._state, unit)

    def show(self, completed: int, count: str, found: str = "") -> None:
        """Update the bar.

        Args:
            completed: how much is done.
            count: the same in words; left out first on a narrow terminal.
            found: the best loss, or what else is known so far.
        """
        self._state.count, self._state.found = count, found
        self._progress.update(self._task, completed=completed, total=self._state.total)

    def set_total(self, total: int) -> None:
        """Change the amount of work."""
        self._state.total = total

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()


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

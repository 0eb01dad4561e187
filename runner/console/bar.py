"""A bar on a terminal: how far, how fast, the loss and the time left, in whatever width there is."""

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
    """Tell whether standard output is a terminal; a notebook or a service may have none at all."""
    return hasattr(sys.stdout, "isatty") and sys.stdout.isatty()


def has_bars() -> bool:
    """Tell whether standard output is a terminal that can show a bar, which draws over what it has drawn."""
    return is_terminal() and os.environ.get("TERM", "").lower() not in NO_BARS


class Bar:
    """A bar that is drawn anew several times a second until it is stopped."""

    def __init__(self, total: int, completed: int = 0, unit: str = "steps") -> None:
        """Start to draw.

        Args:
            total: how much there is to do.
            completed: how much of it is done.
            unit: what it is counted in, for how many of it there are a second; nothing where nobody asks.
        """
        self._state = State(total, completed)
        self._progress, self._task = _start(self._state, unit)

    def show(self, completed: int, count: str, found: str = "") -> None:
        """Show how much is done, the same in words that go first where there is no room, and what has been found."""
        self._state.count, self._state.found = count, found
        self._progress.update(self._task, completed=completed, total=self._state.total)

    def reach(self, total: int) -> None:
        """Take it that there is so much to do."""
        self._state.total = total

    def stop(self) -> None:
        """Draw it no more."""
        self._progress.stop()


@dataclass
class State:
    """What the line of a bar says, of which as much is shown as there is room for."""

    total: int
    completed: int
    count: str = ""
    rate: str = ""
    found: str = ""
    left: str = UNKNOWN

    def fitting(self, width: int) -> tuple[Sequence[str], int]:
        """Return the pieces that fit the width, BAR among them, and how long that is."""
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

"""What the views of a run and of a sweep share: a progress bar, the record's place, and notes on a signal."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.console.bar import Bar

if TYPE_CHECKING:
    from runner.tracking.tracker import Recorded


@dataclass(frozen=True)
class Progress:
    """How far the shards are that run elsewhere.

    Attributes:
        steps: made by all runs of these shards together.
        ended: how many of the runs have ended.
        best: the best loss so far, for each direction that the runs have.
        places: what runs where, in words.
    """

    steps: int
    ended: int
    best: Mapping[Direction, float]
    places: str


class ProgressView:
    """Prints to standard output: a progress bar on a terminal, a few lines elsewhere, nothing with `quiet=true`.

    Attributes:
        has_ended: whether all steps are done.
        find_record: returns where the run or sweep is recorded, None while that is not known.
    """

    def __init__(self, config: Config) -> None:
        self.has_ended = False
        self.find_record: Callable[[], Recorded | None] = lambda: None
        self._config = config
        self._bar: Bar | None = None

    def stop(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextlib.contextmanager
def notes_on_signal(lines: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Add lines as notes to the KeyboardInterrupt that a signal raises; they say how far the run or sweep was."""
    try:
        yield
    except KeyboardInterrupt as stop:
        for line in lines():
            stop.add_note(line)
        raise

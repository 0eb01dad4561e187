"""Trackers: where the journal entries of runs go, shared by all runs of a sweep."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Protocol

from runner.config.schema import Tracking
from runner.messages.errors import RunnerError
from runner.messages.printing import print_error
from runner.tracking import provenance
from runner.tracking.journal import Entry
from runner.tracking.journal_tracker import JournalTracker, OnRecorded
from runner.tracking.journal_tracker import Recorded as Recorded
from runner.tracking.ledger import Ledger


class Tracker(Protocol):
    """Takes the journal entries of runs.

    Attributes:
        owner: its id, which distinguishes it from other processes that want to resume the same sweep.
    """

    owner: str

    def append(self, entry: Entry) -> None:
        """Take an entry."""

    def append_encoded(self, entries: bytes) -> None:
        """Take entries that another process has encoded."""

    def check(self) -> None:
        """Raise the error of the recorder, if there is one."""

    def recorded(self, run: str) -> Recorded | None:
        """Return the run in MLflow, once `finish` has returned."""

    def wait_for(self, run: str) -> Recorded | None:
        """Wait until MLflow has a run that has begun, and return it; None where nothing is recorded."""

    def ledger(self, sweep: str, resume: str | bool, may_join: bool = False) -> Ledger | None:
        """Return the finished jobs of the sweep to resume; None if there is no such sweep.

        With `may_join`, sweeps that other processes are running are passed over.
        """

    def finish(self, is_hurried: bool = False) -> None:
        """Wait until everything is recorded; only a few seconds if `is_hurried`."""


class Untracked:
    """Records nothing."""

    owner = ""

    def append(self, entry: Entry) -> None:
        """Drop the entry."""

    def append_encoded(self, entries: bytes) -> None:
        """Drop the entries."""

    def check(self) -> None:
        """Do nothing."""

    def recorded(self, run: str) -> Recorded | None:
        """Return None: no run is recorded."""
        return None

    def wait_for(self, run: str) -> Recorded | None:
        """Return None: no run is recorded."""
        return None

    def ledger(self, sweep: str, resume: str | bool, may_join: bool = False) -> Ledger | None:
        """Return None: no sweep is recorded."""
        return None

    def finish(self, is_hurried: bool = False) -> None:
        """Return at once."""


def _tracked(tracking: Tracking, on_recorded: OnRecorded | None, afterwards: str | None) -> JournalTracker:
    provenance.look()  # ready by the time that the first run begins
    return JournalTracker(tracking, on_recorded, afterwards)


# With the id of its process: a forked child needs a tracker of its own.
_shared: ContextVar[tuple[int, Tracking, Tracker] | None] = ContextVar("shared tracker", default=None)


@contextlib.contextmanager
def tracking_to(
    tracking: Tracking, on_recorded: OnRecorded | None = None, afterwards: str | None = None
) -> Iterator[Tracker]:
    """Give a tracker for the settings, and at the end wait until all is recorded.

    Meanwhile `on_recorded` is called with the number of bytes of the journal that are recorded, and its length. The
    function with the dotted name `afterwards` is called by the recorder's process once all is recorded; nothing waits
    for it.

    Nested calls with the same settings, as in a sweep, share one tracker: one journal, one recorder.

    Raises:
        UserError: the store is refused.
        RecordingError: not everything could be recorded.
    """
    outer = _shared.get()
    place = replace(tracking, children=None)
    if outer is not None and outer[:2] == (os.getpid(), place):
        yield outer[2]
        return
    tracker: Tracker = Untracked() if tracking.name == "off" else _tracked(tracking, on_recorded, afterwards)
    token = _shared.set((os.getpid(), place, tracker))
    try:
        yield tracker
    except KeyboardInterrupt:
        try:
            tracker.finish(is_hurried=True)
        except RunnerError as error:
            for line in error.lines:
                print_error(f"error: {line}")
        raise
    except BaseException:
        tracker.finish()
        raise
    else:
        tracker.finish()
    finally:
        _shared.reset(token)

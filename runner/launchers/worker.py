"""Executing a shard in a process of its own, which sends what is to be recorded as updates.

The entries that end a run wait for its report: where the process dies before, the run is executed again and ended once.
"""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from runner.config.direction import Direction
from runner.launchers.node_record import NodeRecord, recording
from runner.launchers.shard import PAUSED, RunReport, Shard
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics, Shown, encode

# An update is sent once it has as many bytes, or so many seconds after the one before.
BYTES, SECONDS = 2**20, 0.5
WAITING = 4
# The machine that executed a run; the tags of a process are those of the one that records.
WORKER = "runner.worker"


@dataclass(frozen=True)
class Update:
    """What has happened in a shard since the update before.

    Attributes:
        entries: encoded journal entries, to be appended in one go.
        recorded: the last step that is recorded by these entries, by run.
        reports: of the runs that ended.
        steps: made by all runs since the shard began.
        ended: how many runs have ended since then.
        seconds: since the shard began.
        best: the best loss so far.
    """

    entries: bytes
    recorded: dict[str, int]
    reports: tuple[RunReport, ...]
    steps: int
    ended: int
    seconds: float
    best: dict[Direction, float]


class _AbandonedError(Exception):
    """Nobody takes the updates any more."""


def updates_of(shard: Shard) -> Iterator[Update]:
    """Execute a shard in a thread, and yield its updates as they arise; the thread waits where nobody takes them.

    Raises:
        RunnerError: the runs cannot be executed here.
    """
    box = _Outbox()
    thread = threading.Thread(target=box.fill, args=(shard,), daemon=True)
    thread.start()
    try:
        while (update := box.queue.get()) is not None:
            if isinstance(update, BaseException):
                raise update
            yield update
    finally:
        box.is_abandoned = True
        while thread.is_alive():
            box.drain()
            thread.join(0.05)


@dataclass
class _Outbox:
    """Collects what a shard sends; as a view it takes the progress of its batches."""

    queue: "queue.Queue[Update | BaseException | None]" = field(default_factory=lambda: queue.Queue(WAITING))
    is_abandoned: bool = False
    _entries: list[bytes] = field(default_factory=list)
    _endings: dict[str, list[bytes]] = field(default_factory=dict)
    _recorded: dict[str, int] = field(default_factory=dict)
    _reports: list[RunReport] = field(default_factory=list)
    _best: dict[Direction, float] = field(default_factory=dict)
    _steps_before: int = 0
    _steps: int = 0
    _ended_before: int = 0
    _ended: int = 0
    _began_at: float = field(default_factory=time.monotonic)
    _sent_at: float = field(default_factory=time.monotonic)
    _record: NodeRecord | None = None

    def fill(self, shard: Shard) -> None:
        """Execute the shard and send all updates, then None, or the error."""
        from runner.launchers.running import run_shard

        try:
            with recording(shard.place) as self._record:
                for report in run_shard(shard, self.append, self, self.check):
                    endings = self._endings.pop(report.run, [])
                    self._entries += [] if report.status == PAUSED else endings
                    self._reports.append(report)
                if self._record is not None:
                    self._entries = [self._record.finish()]
            self._send()
            self._put(None)
        except _AbandonedError:
            pass
        except BaseException as error:
            self._put(error)

    def append(self, entry: Entry) -> None:
        """Take a journal entry of the shard."""
        if self._record is None and isinstance(entry, Artifact | Shown | End):
            self._endings.setdefault(entry.run, []).append(encode(entry))
            return
        if isinstance(entry, Begin):
            entry = replace(entry, tags=entry.tags | {WORKER: socket.gethostname()})
        if self._record is not None:
            self._record.append(entry)
            return
        if isinstance(entry, Begin):
            self._recorded.setdefault(entry.run, 0)
        self._entries.append(encode(entry))
        if isinstance(entry, Metrics):
            self._recorded |= dict.fromkeys(entry.runs, entry.steps[-1])

    def check(self) -> None:
        """Send an update if it is time to, after a block of steps."""
        if self._record is not None:
            self._record.check()
        is_due = time.monotonic() - self._sent_at >= SECONDS
        if is_due or sum(map(len, self._entries)) >= BYTES:
            self._send()

    def drain(self) -> None:
        """Drop what nobody takes."""
        while not self.queue.empty():
            self.queue.get_nowait()

    def start(self, _hardware: Any, _batch: Any) -> None:
        """Count the steps of another batch from here."""
        self._steps_before, self._ended_before = self._steps, self._ended

    def progress(self, descent: Any) -> None:
        """Take how far the batch is."""
        descent.direction.keep_best(self._best, descent.best)
        self._steps = self._steps_before + descent.steps_made
        self._ended = self._ended_before + descent.ended

    def stop(self) -> None:
        """Do nothing: there is no progress bar."""

    def _send(self) -> None:
        made = self._steps, self._ended, time.monotonic() - self._began_at, dict(self._best)
        is_recorded = self._record is None or self._record.is_whole
        reports = tuple(self._reports) if is_recorded else ()
        self._put(Update(b"".join(self._entries), dict(self._recorded), reports, *made))
        self._entries.clear()
        self._recorded.clear()
        if is_recorded:
            self._reports.clear()
        self._sent_at = time.monotonic()

    def _put(self, update: Update | BaseException | None) -> None:
        while not self.is_abandoned:
            try:
                self.queue.put(update, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _AbandonedError

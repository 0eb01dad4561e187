"""The jobs of a sweep on submitit, as the driver has them: submitted, followed by their files, cancelled."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.launchers.elsewhere import Died, Ended, Event
from runner.launchers.nodes import HARDWARE, description
from runner.launchers.shard import Shard
from runner.launchers.shared_folder import Tail
from runner.launchers.submitit_job import Order, Unfit, execute
from runner.messages.errors import UserError, one_line

KEY = "hydra.launcher"
# How often Slurm is asked how its jobs are; what they send is seen at once.
ASK_SECONDS = 30
# How long a network file system may take to show what a job has written last.
LATE_SECONDS = 15
SUBMIT_AGAIN_SECONDS, SUBMIT_AT_MOST_SECONDS = 10, 600
# So many jobs in a row may land on nodes that lack what the runs need.
UNFIT_AT_MOST = 4
# How long the processes of this machine may take to end.
END_SECONDS = 10


@dataclass
class _Job:
    """A job of a shard.

    Attributes:
        job: submitit's.
        updates: the file that it appends to.
        has_begun: whether it has sent anything.
        done_since: when it was first seen to have ended.
    """

    job: Any
    updates: Path
    tail: Tail
    has_begun: bool = False
    done_since: float | None = None


class Jobs:
    """The jobs of a sweep, of which each executes a shard."""

    def __init__(self, executor: Any, name: str, folder: Path, most: int, cpus: int | None) -> None:
        self.most = most
        self._executor = executor
        self._name = name
        self._folder = folder
        self._cpus = cpus
        self._targets: tuple[str, ...] = ()
        self._expected: dict[str, str] = {}
        self._waiting: deque[tuple[int, Shard]] = deque()
        self._active: dict[int, _Job] = {}
        self._ending: list[_Job] = []
        self._count = 0
        self._unfit = 1  # the first node to answer decides
        self._asked_at = self._submit_at = time.monotonic()
        self._refused_since: float | None = None

    @property
    def places(self) -> str:
        """The executor, and how many jobs wait in its queue or are starting, in words."""
        waiting = sum(not active.has_begun for active in self._active.values())
        return f"jobs of submitit ({self._name})" + (f", {waiting:,} not begun" if waiting else "")

    def expect(self, targets: Sequence[str]) -> None:
        """Expect each node to have what this process has, for runs that need these functions."""
        self._targets = tuple(targets)
        ours = description(targets, None)
        self._expected = {key: value for key, value in ours.items() if key not in HARDWARE}

    def start(self, shard: Shard) -> int:
        """Submit a shard as soon as less than `most` are active; return its number.

        Raises:
            UserError: it cannot be submitted.
        """
        self._count += 1
        self._waiting.append((self._count, shard))
        self._submit()
        return self._count

    def _submit(self) -> None:
        while self._waiting and len(self._active) < self.most and time.monotonic() >= self._submit_at:
            number, shard = self._waiting[0]
            updates = self._folder / f"{number}.updates"
            updates.touch(mode=0o600)
            order = Order(shard, self._targets, self._expected, str(Path.cwd()), self._folder, updates, self._cpus)
            job = self._submitted(order)
            if job is not None:
                self._active[number] = _Job(job, updates, Tail(updates))
                self._waiting.popleft()

    def _submitted(self, order: Order) -> Any:
        """Submit a job and return it; None where Slurm refuses it for now.

        Raises:
            UserError: Slurm refuses the first job, or all for a long time.
        """
        try:
            # Jobs of this machine inherit that: a Ctrl-C of the terminal is for the driver, which ends them.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                job = self._executor.submit(execute, order)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except (RuntimeError, OSError) as error:
            now = time.monotonic()
            self._refused_since = since = self._refused_since or now
            if self._count == 1 or now - since > SUBMIT_AT_MOST_SECONDS:
                raise UserError(f"{KEY}.executor={self._name}: {one_line(error)}") from None
            self._submit_at = now + SUBMIT_AGAIN_SECONDS
            return None
        self._refused_since = None
        return job

    def events(self, seconds: float) -> Iterator[tuple[int, Event]]:
        """Yield what jobs have sent, and which have ended; if nothing, wait.

        Raises:
            UserError: the first node to answer lacks what the runs need, or several in a row.
        """
        self._tidy()
        self._submit()
        is_quiet = True
        for number, active in [*self._active.items()]:
            is_done = self._is_done(active)
            sent = list(active.tail.new())
            is_quiet &= not sent
            for event in sent:
                if number in self._active:
                    yield number, self._taken(number, active, event)
            if is_done and not sent and number in self._active:
                is_quiet = False
                yield number, self._died(number, active)
        if is_quiet:
            time.sleep(seconds)

    def _taken(self, number: int, active: _Job, event: Event | Unfit) -> Event:
        active.has_begun = True
        if isinstance(event, Unfit):
            self._unfit -= 1
            if self._unfit <= 0:
                raise UserError(f"{KEY}: {event.reason}")
            event = Died(event.reason)
        else:
            self._unfit = UNFIT_AT_MOST
        if isinstance(event, Ended | Died):
            del self._active[number]
            self._ending.append(active)
        return event

    def _is_done(self, active: _Job) -> bool:
        """Return whether a job has ended, so that it sends nothing any more."""
        now = time.monotonic()
        if self._name == "slurm" and now - self._asked_at > ASK_SECONDS:
            self._asked_at = now
            active.job.watcher.update()  # of all jobs, in one call
        if active.done_since is None and active.job.done():
            active.done_since = now
        late = LATE_SECONDS if self._name == "slurm" else 0
        return active.done_since is not None and now - active.done_since >= late

    def _died(self, number: int, active: _Job) -> Died:
        """Return why a job ended without a word, and keep its log."""
        del self._active[number]
        state = f" as {active.job.state}" if self._name == "slurm" else ""
        reason = f"job {active.job.job_id} of submitit ended early{state}"
        with contextlib.suppress(OSError):
            lines = Path(active.job.paths.stderr).read_text(errors="replace").splitlines()
            said = [line.strip() for line in lines if line.strip() and not line.startswith("submitit ")]
            if said:
                reason += f": {said[-1]}"
        self._remove_files(active, keeps_log=True)
        return Died(reason)

    def cancel(self, shard: int) -> None:
        """Cancel the job of a shard."""
        self._waiting = deque((number, waiting) for number, waiting in self._waiting if number != shard)
        active = self._active.pop(shard, None)
        if active is not None:
            active.updates.unlink(missing_ok=True)
            self._end(active)
            self._ending.append(active)

    def _end(self, active: _Job) -> None:
        if self._name == "slurm":
            active.job.cancel(check=False)
        elif not active.job.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(active.job.job_id), signal.SIGTERM)  # it passes that on

    def close(self) -> None:
        """Cancel all jobs; wait for those of this machine to end."""
        self._waiting.clear()
        for number in [*self._active]:
            self.cancel(number)
        deadline = time.monotonic() + END_SECONDS
        while self._name == "local" and self._ending and time.monotonic() < deadline:
            self._tidy()
            time.sleep(0.05)

    def _tidy(self) -> None:
        """Remove the files of jobs that have ended."""
        for active in [*self._ending]:
            if active.job.done():
                self._ending.remove(active)
                self._remove_files(active)

    def _remove_files(self, active: _Job, keeps_log: bool = False) -> None:
        paths = active.job.paths
        logs = [] if keeps_log else [paths.stderr]
        submitted = [paths.submission_file, paths.submitted_pickle, paths.result_pickle, paths.stdout]
        for path in (active.updates, *submitted, *logs):
            Path(path).unlink(missing_ok=True)
        for link in self._folder.glob(".submission_file_*"):
            if not link.exists():  # it leads to a file that is removed by now
                link.unlink(missing_ok=True)

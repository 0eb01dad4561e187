"""Executing shards as jobs of submitit, one job a shard: on Slurm, or as processes of this machine."""

import contextlib
import logging
import os
import signal
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.launchers.elsewhere import Died, Ended, Event, Execution
from runner.launchers.nodes import HARDWARE, description, first_line, targets_of
from runner.launchers.shard import RunReport, Shard
from runner.launchers.shards import Cutter
from runner.launchers.shared_folder import Heartbeat, Tail, driver_of
from runner.launchers.submitit_job import Order, Unfit, execute
from runner.launchers.work import Work
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.messages.redaction import HIDDEN, shown_tree
from runner.tracking.files import open_folder
from runner.tracking.processes import is_alive

if TYPE_CHECKING:
    from runner.engine.batches import Member

KEY = "hydra.launcher"
INSTALL = "pip install 'runner[submitit]'"
EXECUTORS = ("slurm", "local")
# A shard is executed once, by one process.
ONE = ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node")
# How often Slurm is asked how its jobs are; what they send is seen at once.
ASK_SECONDS = 30
# How long a network file system may take to show what a job has written last.
LATE_SECONDS = 15
SUBMIT_AGAIN_SECONDS, SUBMIT_AT_MOST_SECONDS = 10, 600
# How long the processes of this machine may take to end.
END_SECONDS = 10


@dataclass
class OnSubmitit:
    """Executes shards as jobs of submitit.

    Attributes:
        executor: of submitit: `slurm` or `local`.
        jobs: how many shards are executed at once.
        shard_seconds: how long a shard should take.
        max_retries: how many jobs may die of a shard before it is executed in parts.
        memory_mib: the memory that the steps of a shard may take.
        folder: for messages and jobs' files, on a file system that all nodes share.
        parameters: of the executor, as submitit names them; those that are None are not set.
    """

    executor: str
    jobs: int
    shard_seconds: float
    max_retries: int
    memory_mib: int
    folder: str
    parameters: Mapping[str, Any]
    _jobs: "_Jobs | None" = field(default=None, init=False)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Prepare the executor and a folder of this sweep; when the context ends, cancel what is left.

        Raises:
            UserError: submitit or Slurm is not here, or a parameter is wrong.
        """
        submitit = _submitit()
        base = Path(self.folder).absolute()
        try:
            os.close(open_folder(base))
        except OSError as error:
            raise UserError(f"{KEY}.folder={shown(self.folder)}: {first_line(error)}") from None
        _remove_abandoned(base)
        folder = base / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        heartbeat = Heartbeat(folder)
        try:
            executor = _executor(submitit, self.executor, folder, self.parameters)
            heartbeat.start()
            cpus = self.parameters.get("cpus_per_task")
            self._jobs = _Jobs(executor, self.executor, folder, self.jobs, cpus)
            yield
        finally:
            heartbeat.stop()
            if self._jobs is not None:
                self._jobs.close()
                self._jobs = None
            _remove(folder)

    def check(self, groups: "Sequence[Sequence[Member]]") -> None:
        """Check that the runs fit into a job, and that none has a secret that would be written to the folder.

        Raises:
            UserError: they do not, or one has.
        """
        assert self._jobs is not None
        given = self.parameters.get("mem_gb")
        largest = max((member.bytes_a_row for group in groups for member in group), default=0)
        if given is not None and largest > given * 2**30:
            raise UserError(f"{KEY}.parameters.mem_gb={given}: a run takes about {largest / 2**30:.1f} GiB")
        targets = targets_of(groups)
        if targets:
            _check_arguments(groups)
        self._jobs.expect(targets)

    def reports(self, work: Work) -> Iterator[RunReport]:
        """Execute the runs by jobs, and yield how each ended.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        assert self._jobs is not None
        work.view.start_elsewhere(self._jobs.places)
        cutter = Cutter.of(work.groups, self.shard_seconds, self.jobs, self.memory_mib)
        return Execution(work, self._jobs, cutter, self.max_retries).reports()


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError(f"hydra/launcher=submitit: submitit is not installed, expected it: {INSTALL}") from None
    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    return submitit


def _executor(submitit: Any, name: str, folder: Path, parameters: Mapping[str, Any]) -> Any:
    """Return an executor of submitit with these parameters.

    Raises:
        UserError: it is not available here, or a parameter is wrong.
    """
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=name)
    except RuntimeError:
        instead = "expected a machine that submits to Slurm, or executor=local"
        raise UserError(f"{KEY}.executor={name}: no srun on this machine, {instead}") from None
    given = {key: value for key, value in parameters.items() if value is not None}
    for key, value in given.items():
        setting = f"{KEY}.parameters.{key}={shown(value)}"
        if key in ONE and value != 1:
            raise UserError(f"{setting}: expected 1, a shard is executed by one process")
        try:
            executor.update_parameters(**{key: value})
        except NameError:
            known = _names(submitit)
            raise UserError(
                f"{setting}: no parameter of submitit, expected one such as timeout_min, cpus_per_task, mem_gb, "
                f"slurm_partition{nearest(key, known)}"
            ) from None
        except (AssertionError, TypeError, ValueError) as error:
            raise UserError(f"{setting}: {first_line(error)}") from None
    executor.update_parameters(**given)
    return executor


def _names(submitit: Any) -> list[str]:
    """Return the names of submitit's parameters."""
    kinds = {"": submitit.AutoExecutor, "slurm_": submitit.SlurmExecutor, "local_": submitit.LocalExecutor}
    return [f"{prefix}{name}" for prefix, kind in kinds.items() for name in kind._valid_parameters()]


def _check_arguments(groups: "Sequence[Sequence[Member]]") -> None:
    """Check that no argument of a user's function is a secret.

    Raises:
        UserError: one is.
    """
    for config in (member.config for group in groups for member in group):
        for key, value in (config.objective.parameters.get("arguments") or {}).items():
            if shown_tree({key: value}) != {key: value}:
                given = f"objective.arguments.{key}={HIDDEN}"
                instead = "expected the function to read it from the environment"
                raise UserError(f"{given}: hydra/launcher=submitit would write it to a file, {instead}")


@dataclass
class _Job:
    """A job of a shard.

    Attributes:
        job: submitit's.
        updates: the file that it appends to.
        done_since: when it was first seen to have ended.
    """

    job: Any
    updates: Path
    tail: Tail
    done_since: float | None = None


class _Jobs:
    """The jobs of a sweep, of which each executes a shard."""

    def __init__(self, executor: Any, name: str, folder: Path, most: int, cpus: int | None) -> None:
        self.most = most
        self.places = f"jobs of submitit ({name})"
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
        self._has_executed = False
        self._asked_at = self._submit_at = time.monotonic()
        self._refused_since: float | None = None

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
                raise UserError(f"{KEY}.executor={self._name}: {first_line(error)}") from None
            self._submit_at = now + SUBMIT_AGAIN_SECONDS
            return None
        self._refused_since = None
        return job

    def events(self, seconds: float) -> Iterator[tuple[int, Event]]:
        """Yield what jobs have sent, and which have ended; if nothing, wait.

        Raises:
            UserError: the first node to answer lacks what the runs need.
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
        if isinstance(event, Unfit):
            if not self._has_executed:
                raise UserError(f"{KEY}: {event.reason}")
            event = Died(event.reason)
        self._has_executed = True
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


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of sweeps whose process has ended; jobs that are left of them end themselves."""
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            driver = driver_of(folder)
            if driver is not None and not is_alive(driver):
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder of a sweep, but not the logs of jobs that died."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not path.name.endswith("_log.err") or path.stat().st_size == 0:
                path.unlink()
        folder.rmdir()

"""Executing shards as jobs of submitit, one job a shard: on Slurm, or as processes of this machine."""

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.launchers.elsewhere import Execution
from runner.launchers.node_record import RECORDERS, check_no_password, place_of, store_of
from runner.launchers.nodes import check_arguments, targets_of
from runner.launchers.rungs import reports_elsewhere_in_rungs
from runner.launchers.shard import RunReport
from runner.launchers.shards import Cutter
from runner.launchers.shared_folder import Heartbeat, driver_of
from runner.launchers.submitted_jobs import KEY, Jobs
from runner.launchers.work import Work
from runner.messages.errors import UserError, nearest, one_line
from runner.messages.ranges import shown
from runner.tracking.files import open_folder
from runner.tracking.processes import is_alive

if TYPE_CHECKING:
    from runner.engine.batches import Member

INSTALL = "pip install submitit"
EXECUTORS = ("slurm", "local")
# A shard is executed once, by one process.
ONE = ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node")


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
        record: who records the runs: `driver` or `nodes`.
        parameters: of the executor, as submitit names them; those that are None are not set.
    """

    executor: str
    jobs: int
    shard_seconds: float
    max_retries: int
    memory_mib: int
    folder: str
    parameters: Mapping[str, Any]
    record: str = RECORDERS[0]
    _jobs: Jobs | None = field(default=None, init=False)

    @property
    def prunes(self) -> bool:
        """Whether the driver records the runs, and so knows which of their steps are recorded."""
        return not self.records_on_nodes

    @property
    def records_on_nodes(self) -> bool:
        """Whether the processes that execute shards record them, too."""
        return self.record == "nodes"

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
            raise UserError(f"{KEY}.folder={shown(self.folder)}: {one_line(error)}") from None
        _remove_abandoned(base)
        folder = base / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        heartbeat = Heartbeat(folder)
        try:
            executor = _executor(submitit, self.executor, folder, self.parameters)
            heartbeat.start()
            cpus = self.parameters.get("cpus_per_task")
            self._jobs = Jobs(executor, self.executor, folder, self.jobs, cpus)
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
        if self.records_on_nodes:
            check_no_password(KEY, store_of(KEY, groups))
        targets = targets_of(groups)
        if targets:
            check_arguments(groups, "hydra/launcher=submitit would write it to a file")
        self._jobs.expect(targets)

    def reports(self, work: Work) -> Iterator[RunReport]:
        """Execute the runs by jobs, and yield how each ended.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        assert self._jobs is not None
        work.view.start_elsewhere(self._jobs.places)
        workers, most = self._jobs, self.jobs

        def cutter_of(groups: "Sequence[Sequence[Member]]") -> Cutter:
            return Cutter.of(groups, self.shard_seconds, most, self.memory_mib)

        if work.pruning is not None:
            return reports_elsewhere_in_rungs(work, work.pruning, workers, cutter_of, self.max_retries)
        place = place_of(work, with_secrets=False) if self.records_on_nodes else None
        return Execution(work, workers, cutter_of(work.groups), self.max_retries, place).reports()


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
            raise UserError(f"{setting}: {one_line(error)}") from None
    executor.update_parameters(**given)
    return executor


def _names(submitit: Any) -> list[str]:
    """Return the names of submitit's parameters."""
    kinds = {"": submitit.AutoExecutor, "slurm_": submitit.SlurmExecutor, "local_": submitit.LocalExecutor}
    return [f"{prefix}{name}" for prefix, kind in kinds.items() for name in kind._valid_parameters()]


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of sweeps whose process has ended; jobs that are left of them end themselves."""
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            driver = driver_of(folder)
            if driver is not None and not is_alive(driver):
                _remove(folder, keeps_logs=False)


def _remove(folder: Path, keeps_logs: bool = True) -> None:
    """Remove the folder of a sweep, but not the logs of jobs that died."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not (keeps_logs and path.name.endswith("_log.err") and path.stat().st_size > 0):
                path.unlink()
        folder.rmdir()

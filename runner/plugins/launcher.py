"""The launchers that Hydra instantiates for `hydra/launcher=batched`, `ray` and `submitit`."""

import math
from collections.abc import Sequence
from typing import Any, overload

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.composition.composition import to_config
from runner.config import hydra_values
from runner.config.plain import plain
from runner.launchers.in_process import InProcess
from runner.launchers.node_record import RECORDERS
from runner.launchers.on_ray import OnRay
from runner.launchers.on_submitit import EXECUTORS, OnSubmitit
from runner.launchers.work import ShardLauncher
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.sweeps.job import Job, named
from runner.sweeps.labels import labelled
from runner.sweeps.outcome import JobResult, raise_failures
from runner.sweeps.plan import GridPlan
from runner.sweeps.running import run_sweep


class ShardsLauncher(Launcher):
    """Runs jobs of one kind as one tensor program, in shards.

    Our sweeper takes only `shards` from it, and runs the jobs itself. Under another sweeper it runs the jobs that this
    gives it, under a parent run for each call.

    Attributes:
        shards: cuts the jobs into shards, and has them executed.
    """

    shards: ShardLauncher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments that Hydra passes to a launcher."""
        self._config = config
        self._context = hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs with these overrides.

        Raises:
            UserError: the config of a job is wrong; no job was started.
            SweepError: some jobs failed; the others are recorded.
        """
        loader = self._context.config_loader
        shared = set.intersection(*map(set, job_overrides))
        jobs = []
        for index, overrides in enumerate(job_overrides, start=initial_job_idx):
            cfg = loader.load_sweep_config(self._config, list(overrides))
            hydra_values.set_job_number(cfg, index)
            varying = tuple(text for text in overrides if text not in shared)
            jobs.append(Job(tuple(overrides), varying, to_config(cfg)))
        hydra_values.configure_logging(self._config)
        texts = sorted({text for job in jobs for text in job.overrides})
        results = run_sweep(GridPlan(labelled(named(jobs))), texts, self.shards)
        raise_failures(results)
        return list(Returns(results))


class BatchedLauncher(ShardsLauncher):
    """Runs the shards in this process, one after the other."""

    def __init__(self, memory_mib: int) -> None:
        self.shards = InProcess(_whole("memory_mib", memory_mib, least=1))


class RayLauncher(ShardsLauncher):
    """Runs the shards on Ray."""

    def __init__(
        self,
        address: str | None,
        num_cpus: float,
        num_gpus: float,
        shard_seconds: float,
        max_retries: int,
        runtime_env: dict[str, Any] | None,
        same_hardware: bool,
        memory_mib: int,
        record: str,
    ) -> None:
        if address is not None and not isinstance(address, str):
            raise UserError(f"hydra.launcher.address={shown(address)}: expected null, auto or host:port")
        if not isinstance(same_hardware, bool):
            raise UserError(f"hydra.launcher.same_hardware={shown(same_hardware)}: expected true or false")
        self.shards = OnRay(
            address,
            _number("num_cpus", num_cpus, least=1),
            _number("num_gpus", num_gpus),
            _number("shard_seconds", shard_seconds, least=0.1),
            _whole("max_retries", max_retries),
            _mapping("runtime_env", runtime_env),
            same_hardware,
            _whole("memory_mib", memory_mib, least=1),
            _one_of("record", record, RECORDERS),
        )


class SubmititLauncher(ShardsLauncher):
    """Runs each shard in a job of submitit."""

    def __init__(
        self,
        executor: str,
        jobs: int,
        shard_seconds: float,
        max_retries: int,
        memory_mib: int,
        folder: str,
        parameters: dict[str, Any] | None,
        record: str,
    ) -> None:
        if not isinstance(folder, str) or not folder.strip():
            raise UserError(f"hydra.launcher.folder={shown(folder)}: expected a path")
        self.shards = OnSubmitit(
            _one_of("executor", executor, EXECUTORS),
            _whole("jobs", jobs, least=1),
            _number("shard_seconds", shard_seconds, least=0.1),
            _whole("max_retries", max_retries),
            _whole("memory_mib", memory_mib, least=1),
            folder,
            _mapping("parameters", parameters) or {},
            _one_of("record", record, RECORDERS),
        )


LAUNCHERS: tuple[type[ShardsLauncher], ...] = (BatchedLauncher, RayLauncher, SubmititLauncher)


def shards_of(master: DictConfig) -> ShardLauncher:
    """Return what executes the jobs of a sweep from Python: what `hydra/launcher` names, in this process otherwise.

    Raises:
        UserError: a setting of the launcher is wrong.
    """
    from runner.engine.batches import MEMORY_MIB  # imports torch

    settings = plain(master.hydra.launcher)
    name = str(settings.pop("_target_", "")).rpartition(".")[2]
    for launcher in LAUNCHERS:
        if launcher.__name__ == name:
            return launcher(**settings).shards
    return InProcess(MEMORY_MIB)


def _whole(key: str, value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"hydra.launcher.{key}={shown(value)}: expected a whole number of at least {least}")
    return value


def _number(key: str, value: object, least: float = 0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise UserError(f"hydra.launcher.{key}={shown(value)}: expected a number of at least {least:g}")
    return value


def _one_of(key: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        hint = nearest(str(value), allowed)
        raise UserError(f"hydra.launcher.{key}={shown(value)}: expected {' or '.join(allowed)}{hint}")
    return str(value)


def _mapping(key: str, value: object) -> dict[str, Any] | None:
    if isinstance(value, DictConfig):
        value = OmegaConf.to_container(value)
    if not isinstance(value, dict | None):
        raise UserError(f"hydra.launcher.{key}={shown(value)}: expected null or a mapping")
    return value


class Returns(Sequence[JobReturn]):
    """What Hydra expects of each job, made when it is asked for."""

    def __init__(self, results: Sequence[JobResult]) -> None:
        self._results = results

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> JobReturn: ...

    @overload
    def __getitem__(self, index: slice) -> list[JobReturn]: ...

    def __getitem__(self, index: int | slice) -> JobReturn | list[JobReturn]:
        if isinstance(index, slice):
            return list(map(_return_of, self._results[index]))
        return _return_of(self._results[index])


def _return_of(result: JobResult) -> JobReturn:
    returned = JobReturn(overrides=list(result.job.overrides), status=JobStatus.COMPLETED)
    returned.return_value = result.loss
    return returned

"""The launcher that Hydra instantiates for `hydra/launcher=batched`."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.composition.composition import to_config
from runner.config import hydra_values
from runner.messages.errors import UserError
from runner.sweeps.job import Job, named
from runner.sweeps.labels import labelled
from runner.sweeps.outcome import JobResult, raise_failures
from runner.sweeps.plan import GridPlan
from runner.sweeps.running import run_sweep


class BatchedLauncher(Launcher):
    """Runs jobs of one kind as one tensor program.

    Our sweeper reads only its settings, and runs the jobs itself. Under another sweeper it runs the jobs that this
    gives it, under a parent run for each call.
    """

    def __init__(self, memory_mib: int) -> None:
        if isinstance(memory_mib, bool) or not isinstance(memory_mib, int) or memory_mib < 1:
            raise UserError(f"hydra.launcher.memory_mib={memory_mib}: expected a whole number of at least 1")
        self.memory_mib = memory_mib

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
        results = run_sweep(GridPlan(labelled(named(jobs))), texts, self.memory_mib)
        raise_failures(results)
        return returns_of(results)


def returns_of(results: Sequence[JobResult]) -> list[JobReturn]:
    """Return what Hydra expects of each job."""
    returns = []
    for one in results:
        returned = JobReturn(overrides=list(one.job.overrides), status=JobStatus.COMPLETED)
        returned.return_value = one.loss
        returns.append(returned)
    return returns

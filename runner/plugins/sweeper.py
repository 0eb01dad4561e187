"""The sweeper that Hydra instantiates for `hydra/sweeper=grid`."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.config import hydra_values
from runner.console.view import notes_on_signal
from runner.messages.errors import UserError
from runner.messages.redaction import shown_override
from runner.plugins.launcher import Returns, ShardsLauncher
from runner.sweeps.foreign_launchers import launch
from runner.sweeps.job import Job
from runner.sweeps.outcome import raise_failures
from runner.sweeps.plan import GridPlan
from runner.sweeps.planning import plan_grid
from runner.sweeps.running import run_sweep


class GridSweeper(Sweeper):
    """Runs every combination of the swept values, as the children of one parent run."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments that Hydra passes to a sweeper, and instantiate the configured launcher."""
        self._config = config
        self._context = hydra_context
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs that the overrides describe.

        Raises:
            UserError: the config of a job is wrong; no job was started.
            SweepError: some jobs failed; the others are recorded.
        """
        request, jobs = plan_grid(arguments, self._params, self._context.config_loader, self._config)
        if isinstance(self._launcher, ShardsLauncher):
            hydra_values.configure_logging(self._config)
            with notes_on_signal(lambda: _continue_command(jobs)):
                results = run_sweep(
                    GridPlan(jobs), request.texts, self._launcher.shards, request.resume, request.fail_fast
                )
            raise_failures(results)
            return Returns(results)
        launcher = self._config.hydra.runtime.choices.get("hydra/launcher")
        if request.resume:
            raise UserError(f"resume={request.resume}: expected with hydra/launcher=batched or ray, given {launcher}")
        if request.fail_fast:
            raise UserError(f"fail_fast=true: expected with hydra/launcher=batched or ray, given {launcher}")
        return launch(jobs, request.texts, lambda overrides: self._launcher.launch(overrides, 0))


def _continue_command(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the command that continues a sweep of the command line after a signal."""
    if jobs[0].config.tracking.name == "off":
        return
    texts = [shown_override(text) for text in sys.argv[1:] if not text.startswith("resume=")]
    yield f"continue   {shlex.join(['python', '-m', 'runner', *texts, 'resume=true'])}"

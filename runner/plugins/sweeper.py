"""The sweepers that Hydra instantiates for `hydra/sweeper=grid` and `search`."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.composition.composition import to_config
from runner.config import hydra_values
from runner.config.schema import Config
from runner.console.view import notes_on_signal
from runner.messages.errors import UserError
from runner.messages.printing import print_lines
from runner.messages.redaction import shown_override
from runner.plugins.launcher import Returns, ShardsLauncher
from runner.search.settings import SearchSettings
from runner.sweeps.foreign_launchers import launch
from runner.sweeps.outcome import raise_failures
from runner.sweeps.plan import GridPlan
from runner.sweeps.planning import plan_grid
from runner.sweeps.running import run_sweep

if TYPE_CHECKING:
    from runner.search.plan import SearchPlan
    from runner.sweeps.language import SweepRequest

SEARCH = "hydra_plugins.runner.SearchSweeper"


class ShardsSweeper(Sweeper):
    """Runs the jobs of a sweep as the children of one parent run."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments that Hydra passes to a sweeper, and instantiate the configured launcher."""
        self._config = config
        self._context = hydra_context
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class GridSweeper(ShardsSweeper):
    """Runs every combination of the swept values."""

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs that the overrides describe.

        Raises:
            UserError: the config of a job is wrong; no job was started.
            SweepError: some jobs failed; the others are recorded.
        """
        request, jobs = plan_grid(arguments, self._params, self._context.config_loader, self._config)
        if isinstance(self._launcher, ShardsLauncher):
            hydra_values.configure_logging(self._config)
            with notes_on_signal(lambda: _continue_command(jobs[0].config)):
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


class SearchSweeper(ShardsSweeper):
    """Runs trials that Optuna chooses."""

    def __init__(self, params: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(params)
        self._settings = settings

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the trials of the search that the overrides describe.

        Raises:
            UserError: the search or the config of a trial is wrong.
            SweepError: too many trials failed; the others are recorded.
        """
        launcher = self._launcher
        if not isinstance(launcher, ShardsLauncher):
            name = self._config.hydra.runtime.choices.get("hydra/launcher")
            raise UserError(f"hydra/launcher={name}: expected batched, ray or submitit with hydra/sweeper=search")
        loader, prunes = self._context.config_loader, launcher.shards.prunes
        request, plan = search_of(self._settings, self._params, arguments, loader, self._config, prunes)
        hydra_values.configure_logging(self._config)
        with notes_on_signal(lambda: _continue_command(to_config(self._config))):
            results = run_sweep(plan, request.texts, launcher.shards, request.resume, request.fail_fast)
        if self._config.get("quiet") is not True:
            print_lines(*plan.summary())
        plan.check_failures()
        return Returns(results)


def search_of(
    settings: Mapping[str, Any],
    params: Mapping[str, Any],
    arguments: Sequence[str],
    loader: Any,
    master: DictConfig,
    prunes: bool = True,
) -> "tuple[SweepRequest, SearchPlan]":
    """Return the request and the plan of a search with the settings of `hydra.sweeper`.

    Args:
        settings: of the sweeper.
        params: `hydra.sweeper.params`.
        arguments: the overrides.
        loader: composes the configs of trials.
        master: the config of the sweep.
        prunes: whether the launcher can end trials early.

    Raises:
        UserError: Optuna is not installed, or something of the search is wrong.
    """
    given = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    checked = SearchSettings.of(cast(dict[str, Any], given))
    if checked.pruner is not None and not prunes:
        raise UserError(
            f"hydra/sweeper/pruner={settings['pruner']['name']}: expected hydra.launcher.record=driver, given nodes"
        )
    try:
        from runner.search.plan import plan_search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        install = "pip install 'gradient-descent-runner[search]'"
        raise UserError(f"hydra/sweeper=search: Optuna is not installed; {install}") from None
    return plan_search(arguments, params, checked, loader, master)


def _continue_command(config: Config) -> Iterator[str]:
    """Yield the command that continues a sweep of the command line after a signal."""
    if config.tracking.name == "off":
        return
    texts = [shown_override(text) for text in sys.argv[1:] if not text.startswith("resume=")]
    yield f"continue   {shlex.join(['python', '-m', 'runner', *texts, 'resume=true'])}"

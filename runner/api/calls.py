"""Runs and sweeps from Python: `from runner import run, sweep`, in a script or a notebook."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from runner.api.caller_state import caller_state_restored
from runner.api.settings import as_overrides
from runner.composition import composition
from runner.composition.overrides import task_overrides
from runner.config.folders import check_working_directory
from runner.config.schema import Config
from runner.console.view import notes_on_signal
from runner.engine.best import Best
from runner.engine.result import Outcome, Result
from runner.execution.job import run as run_config
from runner.execution.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Outcome", "RunResult", "run", "sweep"]


@dataclass(frozen=True)
class RunResult:
    """The result of a run, and its recorded steps.

    Attributes:
        config: the config of the run.
        result: the last step, which the command line prints.
        trajectory: the recorded steps.
        run_id: the run's id in MLflow; None when it was not tracked.
    """

    config: Config
    result: Result
    trajectory: Trajectory
    run_id: str | None

    def __repr__(self) -> str:
        """Return how the run ended, in one line."""
        return f"{type(self).__name__}({self.result.summary}, run_id={self.run_id!r})"

    def _repr_html_(self) -> str:
        """Return figures and a table, for notebooks."""
        from runner.api.display import ShownRun, html_of_run

        return html_of_run(ShownRun(self.config, self.result, self.trajectory, self.run_id))

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return self.result.outcome

    @property
    def weight(self) -> Tensor:
        """The last weight, `(dim,)`."""
        return self.result.weight

    @property
    def gradient(self) -> Tensor:
        """The gradient of the last forward pass, `(dim,)`."""
        return self.result.gradient

    @property
    def loss(self) -> float:
        """The loss of the last forward pass."""
        return self.result.loss

    @property
    def best(self) -> Best | None:
        """The step with the best loss, and its weight; None if no loss was finite."""
        return self.result.best

    def frame(self) -> "pd.DataFrame":
        """Return the recorded steps as rows; the columns are named as the metrics in MLflow."""
        import pandas as pd

        return pd.DataFrame(self.trajectory.columns).set_index("step")


def run(overrides: Iterable[str] | Mapping[str, Any] = (), /, **settings: Any) -> RunResult:
    """Execute one run, as `python -m runner` does with the same overrides.

    Overrides are a list of texts, `["lr=0.05"]`, or a mapping, `{"lr": 0.05}`; keywords add to them: `run(lr=0.05)`.

    The global state of Hydra and torch is restored afterwards.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the run ended normally, but could not be recorded completely.
        DivergedError: the run diverged, and `fail_on_divergence` is true; it is recorded.
    """
    check_working_directory()
    texts = as_overrides(overrides, settings, may_vary=False)
    config = composition.to_config(composition.compose(texts))
    with _own_state():
        done = run_config(config, Trajectory(), texts)
    run_id = None if done.recorded is None else done.recorded.run_id
    assert done.trajectory is not None
    return RunResult(config, done.result, done.trajectory, run_id)


def sweep(overrides: Iterable[str] | Mapping[str, Any] = (), /, **settings: Any) -> "pd.DataFrame":
    """Run a sweep, as `python -m runner -m` does with the same overrides.

    Overrides are given as to `run`. A text may have several values, `lr="0.1,0.2"`, and a tuple has: `lr=(0.1, 0.2)`.

    Returns a frame with one row for each job. Its columns are the keys that vary; `status`, which is COMPLETED,
    STOPPED, DIVERGED, FAILED, SKIPPED where `resume` found the job done, or NOT_RUN after a failure with `fail_fast`;
    `reason`, why it failed or which rule stopped it; `run_id`; `remark`, a further remark, such as that its weight
    stopped changing; `rank`, from 1 for the best job, NaN where the last loss is not finite; and the final results
    under their names in MLflow. The global state of Hydra and torch is restored afterwards.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the runs ended normally, but could not be recorded completely.
        DivergedError: some jobs diverged, and `fail_on_divergence` is true; all are recorded.
    """
    from runner.api.sweep_frame import SweepFrame
    from runner.plugins.launcher import shards_of
    from runner.plugins.sweeper import SEARCH, search_of
    from runner.sweeps.outcome import raise_diverged, rows_of
    from runner.sweeps.plan import GridPlan, Plan
    from runner.sweeps.planning import plan_grid
    from runner.sweeps.running import run_sweep

    check_working_directory()
    texts = as_overrides(overrides, settings, may_vary=True)
    loader, master = composition.compose_sweep(texts)
    sweeper = {str(key): value for key, value in master.hydra.sweeper.items()}
    target, params = sweeper.pop("_target_"), {str(key): value for key, value in (sweeper.pop("params") or {}).items()}
    plan: Plan
    if target == SEARCH:
        request, plan = search_of(sweeper, params, task_overrides(master), loader, master)
    else:
        request, jobs = plan_grid(task_overrides(master), params, loader, master)
        plan = GridPlan(jobs)
    launcher = shards_of(master)
    with notes_on_signal(lambda: ["continue   with resume=true among the overrides"]), _own_state():
        results = run_sweep(plan, request.texts, launcher, request.resume, request.fail_fast)
    raise_diverged(results)
    return SweepFrame.of(rows_of(results), results[0].job.config.tracking.uri if results else None)


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    """Set torch's global state as on the command line, and restore the caller's state afterwards."""
    with contextlib.ExitStack() as state:
        state.enter_context(torch.inference_mode(False))
        state.enter_context(torch.enable_grad())
        state.enter_context(torch.autocast("cpu", enabled=False))
        if torch.get_default_device().type != "cpu":
            state.enter_context(torch.device("cpu"))
        state.enter_context(caller_state_restored())
        yield

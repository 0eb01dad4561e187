"""Runs and sweeps from Python: `from runner import run, sweep`, in a script or a notebook."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from runner.api.callers_state import of_the_caller
from runner.api.settings import as_overrides
from runner.composition import composition
from runner.composition.overrides import task_overrides
from runner.config.folders import check_working_directory
from runner.config.schema import Config
from runner.console.run import telling_stops
from runner.engine.batches import MEMORY_MIB
from runner.engine.best import Best
from runner.engine.result import Outcome, Result
from runner.execution.job import run as run_config
from runner.execution.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Outcome", "RunResult", "run", "sweep"]


@dataclass(frozen=True)
class RunResult:
    """How a run ended, and its way there.

    Attributes:
        config: what was run.
        result: the last step, as the command line sums it up.
        trajectory: the recorded steps.
        run_id: the run's id in MLflow; None when it was not tracked.
    """

    config: Config
    result: Result
    trajectory: Trajectory
    run_id: str | None

    def __repr__(self) -> str:
        """Return how it ended, in a line."""
        return f"{type(self).__name__}({self.result.summary}, run_id={self.run_id!r})"

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
        """The step whose loss was best, and the weight there; None where no loss was finite."""
        return self.result.best

    def frame(self) -> "pd.DataFrame":
        """Return the recorded steps, one row each, under the names of the metrics in MLflow."""
        import pandas as pd

        return pd.DataFrame(self.trajectory.columns).set_index("step")


def run(overrides: Iterable[str] | Mapping[str, Any] = (), /, **settings: Any) -> RunResult:
    """Run what the overrides say, as `python -m runner` does with the same ones.

    They are a list of texts, `["lr=0.05"]`, or a mapping, `{"lr": 0.05}`, with others as keywords: `run(lr=0.05)`.

    Hydra's and torch's global state are afterwards as they were before.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the run went well, its record did not.
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
    """Run the sweep that the overrides say, as `python -m runner -m` does with the same ones.

    They may be given as to `run`; a text may hold several values, `lr="0.1,0.2"`, and a tuple does, `lr=(0.1, 0.2)`.

    Returns a frame with a row a job: what varied, under its keys; `status`, which is COMPLETED, STOPPED, DIVERGED,
    FAILED, SKIPPED where `resume` found the job done, or NOT_RUN after a failure with `fail_fast`;
    `reason`, why it failed or which rule stopped it; `run_id`;
    `remark`, what is to be said besides, such as that its weight no longer moved; `rank`, its place in the order that
    the command line prints, from 1 for the best, NaN where its last loss is no number; and the final results under
    their names in MLflow. Hydra's and torch's global state are afterwards as they were before.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the runs went well, their record did not.
        DivergedError: some jobs diverged, and `fail_on_divergence` is true; all are recorded.
    """
    import pandas as pd

    from runner.sweeps.batched import run_sweep
    from runner.sweeps.outcome import raise_diverged, rows_of
    from runner.sweeps.plugins import planned

    check_working_directory()
    texts = as_overrides(overrides, settings, may_vary=True)
    loader, master = composition.compose_sweep(texts)
    params = {str(key): value for key, value in (master.hydra.sweeper.get("params") or {}).items()}
    request, jobs = planned(task_overrides(master), params, loader, master)
    memory_mib = master.hydra.launcher.get("memory_mib", MEMORY_MIB)
    with telling_stops(lambda: ["go on      with resume=true among the overrides"]), _own_state():
        done = run_sweep(jobs, request.texts, memory_mib, request.resume, request.fail_fast)
    raise_diverged(done)
    return pd.DataFrame(rows_of(done))


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    """Let a run have torch's state as the command line has it, whatever the caller's is, and give that back."""
    with contextlib.ExitStack() as state:
        state.enter_context(torch.inference_mode(False))
        state.enter_context(torch.enable_grad())
        state.enter_context(torch.autocast("cpu", enabled=False))
        if torch.get_default_device().type != "cpu":
            state.enter_context(torch.device("cpu"))
        state.enter_context(of_the_caller())
        yield

"""Runs and sweeps from Python: `from runner import run, sweep`, in a script or a notebook."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner import composition
from runner.batches import MEMORY_MIB
from runner.config import Config
from runner.job import run as run_config
from runner.result import Outcome, Result
from runner.sweeps import spacing
from runner.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd


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

    def frame(self) -> "pd.DataFrame":
        """Return the recorded steps, one row each, under the names of the metrics in MLflow."""
        import pandas as pd

        return pd.DataFrame(self.trajectory.columns).set_index("step")


def run(overrides: Sequence[str] = ()) -> RunResult:
    """Run what the overrides say, as `python -m runner` does with the same ones.

    Hydra's and torch's global state are afterwards as they were before.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the run went well, its record did not.
    """
    composition.install_resolvers()
    config = composition.to_config(composition.compose(overrides))
    with _same_threads():
        done = run_config(config, Trajectory())
    run_id = None if done.recorded is None else done.recorded.run_id
    assert done.trajectory is not None
    return RunResult(config, done.result, done.trajectory, run_id)


def sweep(overrides: Sequence[str] = ()) -> "pd.DataFrame":
    """Run the sweep that the overrides say, as `python -m runner -m` does with the same ones.

    Returns a frame with a row a job: what varied, under its keys; `status`, which is COMPLETED, STOPPED, DIVERGED,
    FAILED, or SKIPPED where `resume` found the job done; `reason`, why it failed or which rule stopped it; `run_id`;
    and the final results under their names in MLflow. Hydra's and torch's global state are afterwards as they were
    before.

    Raises:
        UserError: with a line for each mistake; nothing was recorded.
        RecordingError: the runs went well, their record did not.
    """
    import pandas as pd

    from runner.sweeps.batched import row_of, run_sweep
    from runner.sweeps.grid import planned

    composition.install_resolvers()
    with spacing.known():
        loader, master = composition.compose_sweep(overrides)
        params = {str(key): value for key, value in (master.hydra.sweeper.get("params") or {}).items()}
        request, jobs = planned(list(master.hydra.overrides.task), params, loader, master)
    memory_mib = master.hydra.launcher.get("memory_mib", MEMORY_MIB)
    with _same_threads():
        done = run_sweep(jobs, request.texts, memory_mib, request.resume)
    return pd.DataFrame([row_of(one) for one in done])


@contextlib.contextmanager
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)

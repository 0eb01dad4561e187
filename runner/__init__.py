"""Gradient-descent experiments from YAML, recorded in MLflow."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api.calls import Outcome, RunResult, run, sweep
    from runner.messages.errors import DivergedError, FunctionError, RecordingError, RunnerError, SweepError, UserError
    from runner.reading import RunRecord, Runs, runs

__version__ = "0.1.0"
__all__ = [
    "DivergedError",
    "FunctionError",
    "Outcome",
    "RecordingError",
    "RunRecord",
    "RunResult",
    "RunnerError",
    "Runs",
    "SweepError",
    "UserError",
    "__version__",
    "run",
    "runs",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Import a name on first access, so that commands that only explain import neither torch nor MLflow."""
    if name not in __all__:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    if name.endswith("Error"):
        from runner.messages import errors

        return getattr(errors, name)
    from runner.config.folders import check_working_directory

    if name in ("RunRecord", "Runs", "runs"):
        from runner import reading

        return getattr(reading, name)
    check_working_directory()  # without which torch would end the process as it is imported
    from runner.api import calls

    return getattr(calls, name)


def __dir__() -> list[str]:
    """Include the names that are imported on first access."""
    return sorted({*globals(), *__all__})

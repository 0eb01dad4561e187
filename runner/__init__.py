"""Gradient-descent experiments from YAML, recorded in MLflow."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import RunResult, run, sweep
    from runner.errors import RunnerError, UserError

__version__ = "0.1.0"
__all__ = ["RunResult", "RunnerError", "UserError", "__version__", "run", "sweep"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that a command which explains itself imports nothing heavy."""
    if name in ("RunResult", "run", "sweep"):
        from runner import api

        return getattr(api, name)
    if name in ("RunnerError", "UserError"):
        from runner import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'runner' has no attribute '{name}'")

"""Configs and sweeps, composed in the tests' own process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import DictConfig

from runner.composition import composition
from runner.composition.checked_loader import CheckedConfigLoader
from runner.composition.composition import compose_sweep
from runner.composition.overrides import task_overrides
from runner.sweeps.job import Job
from runner.sweeps.planning import plan_grid


def jobs_of(arguments: Sequence[str], params: dict[str, Any] | None = None) -> list[Job]:
    loader, master = compose_sweep(arguments)
    return list(plan_grid(task_overrides(master), params or {}, loader, master)[1])


def composed(folder: Path, *overrides: str, primary: str = "config") -> DictConfig:
    path = create_config_search_path(str(composition.config_folder()))
    path.prepend("command-line", f"file://{folder}")
    return CheckedConfigLoader(path).load_configuration(primary, list(overrides), RunMode.RUN)

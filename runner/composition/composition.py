"""Compose checked configs with Hydra; all mistakes in names, types and ranges are reported at once, one line each."""

from collections.abc import Sequence

from hydra.types import RunMode
from omegaconf import DictConfig

from runner.composition.checked_loader import CheckedConfigLoader, CompletingConfigLoader
from runner.composition.hydra_output import redact_output
from runner.composition.loader import HYDRA_LOCK
from runner.config.checking import checked_config
from runner.config.hydra_private import create_config_search_path, use_config_loader
from runner.config.plain import plain
from runner.config.schema import Config
from runner.config.shipped import config_folder as config_folder


def install(is_completing: bool = False) -> None:
    """Let Hydra compose with the runner's loader, for a run or a shell's completion, and hide secrets in its output."""
    use_config_loader(CompletingConfigLoader if is_completing else CheckedConfigLoader)
    redact_output()


def compose(overrides: Sequence[str]) -> DictConfig:
    """Return the checked config of these overrides, without changing Hydra's global state.

    Raises:
        UserError: with a line for each mistake.
    """
    return _loader().load_configuration("config", list(overrides), RunMode.RUN)


def compose_sweep(overrides: Sequence[str]) -> tuple[CheckedConfigLoader, DictConfig]:
    """Return the loader that composes the jobs of a sweep, and the sweep's own config.

    Raises:
        UserError: with a line for each mistake in what is not swept.
    """
    loader = _loader()
    return loader, loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)


def _loader() -> CheckedConfigLoader:
    with HYDRA_LOCK:
        return CheckedConfigLoader(create_config_search_path(str(config_folder())))


def to_config(cfg: DictConfig) -> Config:
    """Return the typed config of a composed one.

    Raises:
        UserError: with a line for each problem.
    """
    return checked_config(plain(cfg))

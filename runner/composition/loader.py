"""A config loader that changes no state that Hydra and OmegaConf share between threads."""

import os
import threading

from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from runner.composition.override_functions import parser
from runner.config.hydra_private import HookedConfigLoader, IConfigRepository
from runner.config.interpolation import guard

# Hydra's registries of plugins and structured configs are shared by all threads, and change while they are read.
HYDRA_LOCK = threading.RLock()
os.register_at_fork(after_in_child=HYDRA_LOCK._at_fork_reinit)  # type: ignore[attr-defined]


class GuardedConfigLoader(HookedConfigLoader):
    """Composes guarded configs, from overrides that may call the functions for sweeps."""

    def parse(self, overrides: list[str]) -> list[Override]:
        """Parse overrides that may call the functions for sweeps."""
        return parser().parse_overrides(overrides)

    def merge_files(self, defaults: list[ResultDefault], repository: IConfigRepository) -> DictConfig:
        """Merge the files into a guarded config: merging resolves the interpolations of one file for the next.

        Raises:
            ConfigCompositionException: a file cannot be merged with those before it.
        """
        cfg = guard(OmegaConf.create())
        with flag_override(cfg, "no_deepcopy_set_nodes", True):
            for default in defaults:
                file = super().merge_files([default], repository)
                try:
                    cfg.merge_with(guard(file))
                except OmegaConfBaseException as error:
                    reason = f"In '{default.config_path}': {type(error).__name__} raised while composing config:"
                    raise ConfigCompositionException(f"{reason}\n{error}") from error.__cause__
        return cfg

    def composed(self, name: str | None, overrides: list[str], run_mode: RunMode, *validation: bool) -> DictConfig:
        """Return the config that Hydra composes, guarded."""
        with HYDRA_LOCK:
            return guard(super().load_configuration(name, overrides, run_mode, *validation))

"""Hydra's composition with means of our own: it changes nothing that Hydra and OmegaConf share between threads."""

import os
import threading

from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from runner.composition.spaces import parser
from runner.config import environment
from runner.config.hydra_private import HookedConfigLoader, IConfigRepository

# Hydra's registers of plugins and of its own configs are one for all threads, and change while they are read.
ALONE = threading.RLock()
os.register_at_fork(after_in_child=ALONE._at_fork_reinit)  # type: ignore[attr-defined]


class OwnConfigLoader(HookedConfigLoader):
    """Composes configs of ours, from overrides in which our functions are known."""

    def parse(self, overrides: list[str]) -> list[Override]:
        """Parse overrides in which our functions are known."""
        return parser().parse_overrides(overrides)

    def merge_files(self, defaults: list[ResultDefault], repository: IConfigRepository) -> DictConfig:
        """Merge the files into a config of ours, since what one file interpolates is resolved for another's sake.

        Raises:
            ConfigCompositionException: a file cannot be merged with those before it.
        """
        cfg = environment.own(OmegaConf.create())
        with flag_override(cfg, "no_deepcopy_set_nodes", True):
            for default in defaults:
                of_file = super().merge_files([default], repository)
                try:
                    cfg.merge_with(environment.own(of_file))
                except OmegaConfBaseException as error:
                    reason = f"In '{default.config_path}': {type(error).__name__} raised while composing config:"
                    raise ConfigCompositionException(f"{reason}\n{error}") from error.__cause__
        return cfg

    def composed(self, name: str | None, overrides: list[str], run_mode: RunMode, *validation: bool) -> DictConfig:
        """Return what Hydra composes, as a config of ours."""
        with ALONE:
            return environment.own(super().load_configuration(name, overrides, run_mode, *validation))

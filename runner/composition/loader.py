"""Hydra's composition with means of our own: it changes nothing that Hydra and OmegaConf share between threads."""

import os
import threading

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from runner.composition.spaces import parser
from runner.config import environment

# Hydra's registers of plugins and of its own configs are one for all threads, and change while they are read.
ALONE = threading.RLock()
os.register_at_fork(after_in_child=ALONE._at_fork_reinit)  # type: ignore[attr-defined]


class OwnConfigLoader(ConfigLoaderImpl):
    """Composes configs of ours, from overrides in which our functions are known."""

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = parser().parse_overrides(overrides)
        repository = CachingConfigRepository(self.repository)
        self._process_config_searchpath(config_name, parsed, repository)
        return parsed, repository

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """Merge the files into a config of ours, since what one file interpolates is resolved for another's sake."""
        cfg = environment.own(OmegaConf.create())
        with flag_override(cfg, "no_deepcopy_set_nodes", True):
            for default in defaults:
                of_file = super()._compose_config_from_defaults_list([default], repo)
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

"""Where configs are found, their defaults lists checked as they are read."""

import copy
from typing import Any, Self

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from runner.composition.defaults_lists import ConfigFile, checked, file_name, named
from runner.config.environment import note_named
from runner.config.hydra_private import HookedConfigRepository
from runner.config.schema import GROUPS
from runner.config.yaml_files import bounded
from runner.messages.errors import UserError, nearest


class CheckedSources(HookedConfigRepository):
    """Reads configs as Hydra does; Hydra copies it for each composition and option list, to replace what is in it."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return copy.copy(self)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs on the search path, and read YAML within bounds."""
        super().initialize_sources(config_search_path)
        self.sources = list(map(bounded, self.sources))

    def file(self, config_path: str) -> ConfigFile:
        """Return the file of a config that there is."""
        source = self.source_of(config_path)
        name = config_path if source is None else file_name(f"{source.scheme()}://{source.path}", config_path)
        return ConfigFile(config_path, name, self.get_group_options)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a config, or None where there is none; `name: off` means the option of that name."""
        loaded, group = super().load_config(config_path), config_path.rpartition("/")[0]
        if loaded is not None and isinstance(loaded.config, DictConfig) and group in GROUPS:
            value = dict(loaded.config.items_ex(resolve=False)).get("name")
            if isinstance(value, bool) and (option := named(self.get_group_options(group), value)) is not None:
                loaded.config["name"] = option
        return loaded

    def take_defaults(self, config_path: str, cfg: Container) -> ListConfig:
        """Take the defaults list out of a config.

        Raises:
            ConfigCompositionException: with the line that says why there is none.
        """
        if (line := self._misshapen(config_path, cfg)) is not None:
            raise ConfigCompositionException(line) from UserError(line)
        try:
            return super().take_defaults(config_path, cfg)
        except ValueError as error:
            kind = str(error).rpartition("(got ")[2].rstrip(")")
            kind = {"mapping": "a mapping", "str": "text", "NoneType": "nothing"}.get(kind, kind)
            line = f"{self.file(config_path).name}: defaults: expected a list, each item after a dash, given {kind}"
            raise ConfigCompositionException(line) from UserError(line)

    def read_defaults(self, config_path: str, items: ListConfig) -> list[InputDefault]:
        """Return the items of a defaults list, checked.

        Raises:
            ConfigCompositionException: with a line for each item that no defaults list can hold.
        """
        if not items:
            return super().read_defaults(config_path, items)
        written = OmegaConf.to_container(items, resolve=False)
        assert isinstance(written, list)
        note_named(str(written))
        try:
            taken = checked(self.file(config_path), written)
        except UserError as error:
            raise ConfigCompositionException(str(error)) from error
        return super().read_defaults(config_path, OmegaConf.create(taken))

    def _misshapen(self, config_path: str, cfg: Container) -> str | None:
        """Return what is wrong with a file that is no mapping, or whose defaults list has another name."""
        if not isinstance(cfg, DictConfig):
            is_global = config_path.rpartition("/")[0] in ("", "experiment")
            return f"{self.file(config_path).name}: expected keys with values, as in lr: 0.1" if is_global else None
        for key, value in cfg.items_ex(resolve=False):
            if isinstance(value, ListConfig) and key != "defaults" and nearest(str(key), ["defaults"]):
                return f"{self.file(config_path).name}: {key!s}: unknown key; did you mean 'defaults'?"
        return None

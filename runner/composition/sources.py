"""Where configs are found, their defaults lists checked as they are read."""

import copy
from typing import Any, Self

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import Container, DictConfig, ListConfig, Node, OmegaConf

from runner.composition.defaults_lists import ConfigFile, checked, file_name, named
from runner.config.environment import note_named
from runner.config.schema import GROUPS
from runner.config.yaml_files import bounded
from runner.messages.errors import UserError, nearest


class CheckedSources(ConfigRepository):
    """Reads configs as Hydra does; Hydra copies it for each composition and option list, to replace what is in it."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return copy.copy(self)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs on the search path, and read YAML within bounds."""
        super().initialize_sources(config_search_path)
        self.sources = list(map(bounded, self.sources))

    def file(self, config_path: str) -> ConfigFile:
        """Return the file of a config that there is."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        name = config_path if source is None else file_name(f"{source.scheme()}://{source.path}", config_path)
        return ConfigFile(config_path, name, self.get_group_options)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a config, or None where there is none; `name: off` means the option of that name."""
        loaded, group = super().load_config(config_path), config_path.rpartition("/")[0]
        if loaded is not None and isinstance(loaded.config, DictConfig) and group in GROUPS:
            name = loaded.config._get_node("name")
            value = name._value() if isinstance(name, Node) else None
            if isinstance(value, bool) and (option := named(self.get_group_options(group), value)) is not None:
                loaded.config["name"] = option
        return loaded

    def _extract_defaults_list(self, config_path: str, cfg: Container) -> ListConfig:
        if (line := self._misshapen(config_path, cfg)) is not None:
            raise ConfigCompositionException(line) from UserError(line)
        try:
            return super()._extract_defaults_list(config_path, cfg)
        except ValueError as error:
            kind = str(error).rpartition("(got ")[2].rstrip(")")
            kind = {"mapping": "a mapping", "str": "text", "NoneType": "nothing"}.get(kind, kind)
            line = f"{self.file(config_path).name}: defaults: expected a list, each item after a dash, given {kind}"
            raise ConfigCompositionException(line) from UserError(line)

    def _create_defaults_list(self, config_path: str, defaults: ListConfig) -> list[InputDefault]:
        if not defaults:
            return super()._create_defaults_list(config_path, defaults)
        items = OmegaConf.to_container(defaults, resolve=False)
        assert isinstance(items, list)
        note_named(str(items))
        try:
            taken = checked(self.file(config_path), items)
        except UserError as error:
            raise ConfigCompositionException(str(error)) from error
        return super()._create_defaults_list(config_path, OmegaConf.create(taken))

    def _misshapen(self, config_path: str, cfg: Container) -> str | None:
        """Return what is wrong with a file that is no mapping, or whose defaults list has another name."""
        if not isinstance(cfg, DictConfig):
            is_global = config_path.rpartition("/")[0] in ("", "experiment")
            return f"{self.file(config_path).name}: expected keys with values, as in lr: 0.1" if is_global else None
        for key, value in cfg.items_ex(resolve=False):
            if isinstance(value, ListConfig) and key != "defaults" and nearest(str(key), ["defaults"]):
                return f"{self.file(config_path).name}: {key!s}: unknown key; did you mean 'defaults'?"
        return None

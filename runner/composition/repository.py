"""The repository of config files, which checks their defaults lists as it reads them."""

import copy
from typing import Any, Self

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from runner.composition.defaults_lists import ConfigFile, checked_items, file_name, option_read_as
from runner.config.hydra_private import HookedConfigRepository
from runner.config.interpolation import note_variables
from runner.config.schema import GROUPS
from runner.config.yaml_files import with_limits
from runner.messages.errors import UserError, nearest

# The option of a group that has to be chosen elsewhere.
UNCHOSEN = "???"


class CheckedConfigRepository(HookedConfigRepository):
    """Reads configs as Hydra does; Hydra copies the repository for each composition and replaces its sources.

    Attributes:
        unchosen: the configs read so far, by the copies too, whose defaults lists have a group without an option.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        self.unchosen: set[str] = set()
        super().__init__(config_search_path)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return copy.copy(self)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs on the search path; YAML files are read with limits on their size."""
        super().initialize_sources(config_search_path)
        self.sources = list(map(with_limits, self.sources))

    def file(self, config_path: str) -> ConfigFile:
        """Return the file of an existing config."""
        source = self.source_of(config_path)
        name = config_path if source is None else file_name(f"{source.scheme()}://{source.path}", config_path)
        return ConfigFile(config_path, name, self.get_group_options)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a config, or None if it does not exist; `name: off` is read as the option of that name."""
        loaded, group = super().load_config(config_path), config_path.rpartition("/")[0]
        if loaded is not None and isinstance(loaded.config, DictConfig) and group in GROUPS:
            value = dict(loaded.config.items_ex(resolve=False)).get("name")
            if isinstance(value, bool) and (option := option_read_as(self.get_group_options(group), value)) is not None:
                loaded.config["name"] = option
        return loaded

    def take_defaults(self, config_path: str, cfg: Container) -> ListConfig:
        """Remove the defaults list from a config and return it.

        Raises:
            ConfigCompositionException: with a line that says what is wrong with it.
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
            ConfigCompositionException: with a line for each wrong item.
        """
        if not items:
            return super().read_defaults(config_path, items)
        written = OmegaConf.to_container(items, resolve=False)
        assert isinstance(written, list)
        note_variables(str(written))
        if UNCHOSEN in str(written):
            self.unchosen.add(config_path)
        try:
            taken = checked_items(self.file(config_path), written)
        except UserError as error:
            raise ConfigCompositionException(str(error)) from error
        return super().read_defaults(config_path, OmegaConf.create(taken))

    def _misshapen(self, config_path: str, cfg: Container) -> str | None:
        """Return the line for a file that is not a mapping, or that misspells `defaults`."""
        if not isinstance(cfg, DictConfig):
            is_global = config_path.rpartition("/")[0] in ("", "experiment")
            return f"{self.file(config_path).name}: expected keys with values, as in lr: 0.1" if is_global else None
        for key, value in cfg.items_ex(resolve=False):
            if isinstance(value, ListConfig) and key != "defaults" and nearest(str(key), ["defaults"]):
                return f"{self.file(config_path).name}: {key!s}: unknown key; did you mean 'defaults'?"
        return None

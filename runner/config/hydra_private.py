"""Everything private of Hydra that the runner uses, and all that it replaces there.

No other module imports from `hydra._internal`, or uses a name of Hydra's that begins with an underscore.
tests/config/test_hydra_private.py has a test for each entry, which says what public way is missing.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra._internal.hydra as hydra_main
import hydra.core.utils as hydra_utils
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository as CachingConfigRepository
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_repository import IConfigRepository as IConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource as FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.defaults_list import DefaultsList as DefaultsList
from hydra._internal.grammar import grammar_functions as grammar_functions
from hydra._internal.grammar.functions import Functions as Functions
from hydra._internal.utils import create_config_search_path as create_config_search_path
from hydra._internal.utils import get_args_parser
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.plugin import Plugin
from omegaconf import Container, DictConfig, ListConfig

BASIC_PLUGINS = "hydra._internal.core_plugins."
BASIC_SWEEPER = f"{BASIC_PLUGINS}basic_sweeper.BasicSweeper"
# Hydra raises an error in a defaults list while one of these functions runs; its frame holds which file and item it is.
WALKS_DEFAULTS = defaults_list._create_defaults_tree_impl.__code__
CHECKS_OVERRIDES_USED = defaults_list.Overrides.ensure_overrides_used.__code__
CHECKS_DUPLICATES = defaults_list.ensure_no_duplicates_in_list.__code__

original_functions = overrides_parser.create_functions
_original_return_value: Any = JobReturn.return_value


class HookedConfigLoader(ConfigLoaderImpl):
    """Hydra's config loader, of which subclasses can change single steps."""

    def parse(self, overrides: list[str]) -> list[Override]:
        """Parse the overrides of a composition."""
        return OverridesParser.create().parse_overrides(overrides)

    def open_repository(self, config_name: str | None, parsed: list[Override]) -> CachingConfigRepository:
        """Return the repository that a composition reads its files from, on the search path that it asks for."""
        repository = CachingConfigRepository(self.repository)
        self._process_config_searchpath(config_name, parsed, repository)
        return repository

    def compose_unchecked(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a config."""
        return super()._load_configuration_impl(*arguments, **named)

    def merge_files(self, defaults: list[ResultDefault], repository: IConfigRepository) -> DictConfig:
        """Merge the files of a composition."""
        return super()._compose_config_from_defaults_list(defaults, repository)

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str], parsed_overrides: list[Override] | None = None
    ) -> tuple[list[Override], CachingConfigRepository]:
        # Hydra 1.4 gives what it has parsed, without the runner's functions where the overrides are those of a run.
        parsed = self.parse(overrides)
        return parsed, self.open_repository(config_name, parsed)

    def _load_configuration_impl(self, *arguments: Any, **named: Any) -> DictConfig:
        return self.compose_unchecked(*arguments, **named)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        return self.merge_files(defaults, repo)


class HookedConfigRepository(ConfigRepository):
    """Hydra's repository of config files, whose subclasses can check the defaults lists as they are read."""

    def source_of(self, config_path: str) -> ConfigSource | None:
        """Return the source in which a config is found."""
        return self._find_object_source(config_path, ObjectType.CONFIG)

    def take_defaults(self, config_path: str, cfg: Container) -> ListConfig:
        """Take the defaults list out of a config as it is written."""
        return super()._extract_defaults_list(config_path, cfg)

    def read_defaults(self, config_path: str, items: ListConfig) -> list[InputDefault]:
        """Return the items of a defaults list as Hydra holds them."""
        return super()._create_defaults_list(config_path, items)

    def _extract_defaults_list(self, config_path: str, cfg: Container) -> ListConfig:
        return self.take_defaults(config_path, cfg)

    def _create_defaults_list(self, config_path: str, defaults: ListConfig) -> list[InputDefault]:
        return self.read_defaults(config_path, defaults)


class HookedPackageSource(ImportlibResourcesConfigSource):
    """Hydra's source of the config files of a package, whose subclasses can change how a file is read."""

    def read_resource(self, resource: Any) -> ConfigResult:
        """Read a file of the package."""
        return super()._read_config(resource)

    def _read_config(self, res: Any) -> ConfigResult:
        return self.read_resource(res)


def config_file_name(config_path: str) -> str:
    """Return the name of the file of a config."""
    return ConfigSource._normalize_file_name(config_path)


def header_of(text: str) -> dict[str, str | None]:
    """Return the settings at the beginning of a config file, such as `# @package _global_`."""
    return ConfigSource._get_header_dict(text)


def use_config_loader(loader: type[ConfigLoaderImpl]) -> None:
    """Let `hydra.main` compose with this loader."""
    hydra_main.ConfigLoaderImpl = loader  # type: ignore[attr-defined]  # imported there, not exported


def use_override_functions(create: Callable[[], Functions]) -> None:
    """Let each parser of overrides that Hydra or a sweeper creates know these functions."""
    overrides_parser.create_functions = create


def register_plugin(plugins: Plugins, plugin: type[Plugin], target: str) -> None:
    """Register a plugin, also under the name that a config gives as its `_target_`."""
    plugins.register(plugin)
    plugins.class_name_to_class[target] = plugin


def raw_override_value(override: Override) -> Any:
    """Return the value of an override with the quotes around its texts."""
    return override._value


def override_with(override: Override, value: Any) -> Override:
    """Return an override of the same key with one value, and without the text that it was parsed from."""
    return replace(override, value_type=ValueType.ELEMENT, _value=value, input_line=None)


def replace_file_writer(save_config: Callable[[Any, str, Path], None]) -> None:
    """Let Hydra write the files in `hydra.output_subdir` with this function."""
    hydra_utils._save_config = save_config  # type: ignore[assignment]


def replace_failure_message(show: Callable[[Sequence[str]], None]) -> None:
    """Let this function show the overrides of a job that failed, instead of Hydra, before its error is raised."""

    def return_value(done: JobReturn) -> Any:
        if done.status is JobStatus.FAILED:
            show(done.overrides or ())
            raise done._return_value
        return _original_return_value.fget(done)

    hydra_utils.JobReturn.return_value = property(return_value, _original_return_value.fset)  # type: ignore[method-assign, assignment]


def failure_of(done: JobReturn) -> BaseException:
    """Return the error of a job that failed, without raising it and without a message."""
    failure: BaseException = done._return_value
    return failure


def flag_names(parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of the flags that a parser knows."""
    return [name for action in parser._actions for name in action.option_strings]


def flag_parser() -> argparse.ArgumentParser:
    """Return the parser of Hydra's command-line flags."""
    parser: argparse.ArgumentParser = get_args_parser()
    return parser

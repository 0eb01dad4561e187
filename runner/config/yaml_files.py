"""Reads YAML config files as Hydra does, but limits their size: a few lines with aliases can expand to gigabytes."""

import functools
import io
import os
import pickle
from typing import IO, Any

import yaml
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from runner.config.hydra_private import FileConfigSource, HookedPackageSource, config_file_name, header_of
from runner.config.omegaconf_private import yaml_loader
from runner.messages.errors import UserError

# Far more than any config has. Each use of an alias counts, and each 1,000 characters of a text.
MOST_NODES = 20_000
CHARACTERS_PER_NODE = 1_000
HEADER_CHARACTERS = 512
MOST_FILES = 512


class _LimitedLoader:
    """Rejects a YAML document that is nested too deeply or whose aliases expand too far, before it is constructed."""

    def get_single_data(self) -> Any:
        try:
            return super().get_single_data()  # type: ignore[misc]  # in the loader that this is mixed into
        except RecursionError:
            raise UserError(f"{_name_of(self)}: nested too deeply") from None

    def get_single_node(self) -> Any:
        node = super().get_single_node()  # type: ignore[misc]
        if node is not None and _size_of(node, {}) > MOST_NODES:
            raise UserError(f"{_name_of(self)}: expected at most {MOST_NODES:,} values, aliases counted each time")
        return node


def _name_of(loader: Any) -> str:
    return str(getattr(loader, "name", "a config file"))


def _size_of(node: yaml.Node, known: dict[int, int]) -> int:
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # for a node that contains itself
        parts: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        own = 1 + (len(node.value) // CHARACTERS_PER_NODE if isinstance(node, yaml.ScalarNode) else 0)
        known[id(node)] = min(own + sum(_size_of(part, known) for part in parts), 10 * MOST_NODES)
    return known[id(node)]


@functools.cache
def _loader() -> Any:
    return type("LimitedLoader", (_LimitedLoader, yaml_loader()), {})


def check_size(text: str, name: str) -> None:
    """Check YAML in a text of a config.

    Raises:
        UserError: it is nested too deeply, or its aliases expand too far.
    """
    loader = _loader()(text)
    loader.name = name
    try:
        loader.get_single_data()
    finally:
        loader.dispose()


def _read(file: IO[str], source: ConfigSource) -> ConfigResult:
    """Return the config in a file, as Hydra's own sources do."""
    header, pickled = parsed(file.read(), str(getattr(file, "name", source.path)))
    place = f"{source.scheme()}://{source.path}"
    return ConfigResult(provider=source.provider, path=place, config=pickle.loads(pickled), header=dict(header))


@functools.lru_cache(MOST_FILES)
def parsed(text: str, name: str) -> tuple[dict[str, str | None], bytes]:
    """Return the header and the config in the text of a file, pickled: Hydra changes what it is given.

    The files are read at every composition; unpickling takes a twentieth of the time of parsing.
    """
    held = yaml.load(_named(text, name), Loader=_loader())
    if held is not None and not isinstance(held, list | dict | str):
        raise OSError(f"Invalid loaded object type: {type(held).__name__}")
    if isinstance(held, str):  # OmegaConf parses it as YAML again
        check_size(held, name)
    config = OmegaConf.create({} if held is None else held)
    return header_of(text[:HEADER_CHARACTERS]), pickle.dumps(config)


def _named(text: str, name: str) -> io.StringIO:
    file = io.StringIO(text)
    file.name = name  # the loader reads it, for its errors
    return file


class LimitedFileSource(FileConfigSource):
    """The YAML files of a folder."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file.

        Raises:
            UserError: it is nested too deeply, or its aliases expand too far.
        """
        path = os.path.realpath(os.path.join(self.path, config_file_name(config_path)))  # noqa: PTH118
        if not os.path.exists(path):  # noqa: PTH110  # as in Hydra's own source
            raise ConfigLoadError(f"Config not found : {path}")
        with open(path, encoding="utf-8") as file:
            return _read(file, self)


class LimitedPackageSource(HookedPackageSource):
    """The YAML files of a package."""

    def read_resource(self, resource: Any) -> ConfigResult:
        """Read a file.

        Raises:
            UserError: it is nested too deeply, or its aliases expand too far.
        """
        with resource.open(encoding="utf-8") as file:
            return _read(file, self)


def with_limits(source: ConfigSource) -> ConfigSource:
    """Return a source that reads the same YAML files with limits; sources of other kinds are returned as they are."""
    kind = {"file": LimitedFileSource, "pkg": LimitedPackageSource}.get(source.scheme())
    return source if kind is None else kind(source.provider, f"{source.scheme()}://{source.path}")

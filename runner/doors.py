"""The doors that a config file keeps shut: a stranger's YAML runs no code, imports nothing and writes nowhere else.

What the command line itself says is the user's own doing, and `allow_code=true` there opens all of them.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import omegaconf._utils as omegaconf_utils
import omegaconf.omegaconf as omegaconf_main
import yaml

from runner.errors import UserError
from runner.ranges import shown
from runner.tracking.uris import sqlite_path

# Of a setting, those on the way to it.
Keys: TypeAlias = tuple[str, ...]
# Far more than any config has; an alias that is repeated counts each time, a text once for each so many characters.
MOST_NODES = 20_000
CHARACTERS_A_NODE = 1_000
LOGGING_CLASSES = (
    "logging.StreamHandler",
    "logging.FileHandler",
    "logging.NullHandler",
    "logging.Formatter",
    "colorlog.ColoredFormatter",
)
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
WITHIN = "a place within the working directory, or the setting on the command line"
COMMANDS = ("setup", "python", "srun_args", "additional_parameters")
# What Hydra's own configs interpolate in folders and names of files; anything else could become anything.
HARMLESS = re.compile(
    r"\$\{(?:now:[\w%-]+|hydra[.:]job\.(?:name|num|id|override_dirname)"
    r"|hydra[.:](?:run|sweep)\.dir|hydra[.:]sweep\.subdir|hydra[.:]runtime\.(?:output_dir|cwd))\}"
)


def shut_doors(hydra: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each setting of Hydra's own that no config file may make.

    Args:
        hydra: the composed part of the config, unresolved.
        overrides: of the command line, whose settings are let through.
    """
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    given = [key for key in keys if "/" not in key]  # a choice of a group gives none of its settings
    for parts, value in _leaves(hydra):
        path = ".".join(("hydra", *parts))
        is_own = any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in given)
        if not is_own and (allowed := _unlike_allowed(parts, value)) is not None:
            yield f"{path}={shown(value)}: a config file cannot say so, expected {allowed}, or allow_code=true"
    said = hydra.get("overrides") or {}
    for kind in ("hydra", "task"):
        for text in said.get(kind) or ():
            if text not in overrides:
                yield f"hydra.overrides.{kind}={shown(text)}: a config file cannot say so, expected it as an argument"


def shut_places(tracking: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each place outside the working directory where a config file would have a record written.

    Args:
        tracking: what a config file sets of these settings, resolved.
        overrides: of the command line, whose settings are let through.
    """
    keys = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    given = [key for key, value in keys if key != "tracking" or value.startswith("{")]  # not the choice of a group
    places = {"uri": sqlite_path(str(tracking.get("uri"))), "artifacts": tracking.get("artifacts")}
    for key, place in places.items():
        if f"tracking.{key}" in given or "tracking" in given or place is None:
            continue
        if not Path(os.path.abspath(place)).is_relative_to(Path.cwd()):  # noqa: PTH100  # resolve() follows links
            yield f"tracking.{key}={shown(tracking[key])}: a config file cannot say so, expected {WITHIN}"


def _unlike_allowed(parts: Keys, value: Any) -> str | None:
    """Return what is allowed where a config file's setting is none of that."""
    path = ".".join(parts)
    for door, check in DOORS.items():
        if (path == door or path.startswith(f"{door}.")) and value not in (None, "", [], {}):
            plain = HARMLESS.sub("x", value) if isinstance(value, str) else value
            if "${" in str(plain):
                return "no interpolation but of Hydra's own job, folders and time"
            return check(parts, plain)
    return None


def _nothing(_parts: Keys, _value: Any) -> str | None:
    return "nothing"


def _inside(_parts: Keys, value: Any) -> str | None:
    path = PurePath(str(value))
    leaves = path.is_absolute() or ".." in path.parts or str(value).startswith("~")
    return "a folder within the working directory" if leaves else None


def _file_name(_parts: Keys, value: Any) -> str | None:
    return "a name without slashes" if "/" in str(value) or "\n" in str(value) else None


def _file_folder(_parts: Keys, value: Any) -> str | None:
    return None if str(value).startswith("file://") else "file:// folders"


def _plain_logging(parts: Keys, value: Any) -> str | None:
    key, text = parts[-1], str(value)
    if "." in parts or "_target_" in parts or (key in ("()", "class") and text not in LOGGING_CLASSES):
        return "logging's own handlers"
    if "://" in text and text not in STREAMS:
        return " or ".join(STREAMS)
    if key == "filename" and _inside(parts, value) is not None:
        return "a file within the working directory"
    return None


def _without_commands(parts: Keys, value: Any) -> str | None:
    if parts[1] in COMMANDS or "\n" in str(value):
        return f"none of {', '.join(COMMANDS)}, and no line breaks"
    if parts[-1].endswith(("folder", "dir")):
        return _inside(parts, value)
    return _without_targets(parts, value)


def _without_targets(parts: Keys, _value: Any) -> str | None:
    return "no _target_ within it" if "_target_" in parts[2:] else None


def _values_only(parts: Keys, value: Any) -> str | None:
    swept = parts[2].lstrip("+~ ") if len(parts) > 2 else ""
    if swept.startswith(("allow_code", "hydra", "tracking.")):
        return "no allow_code, no place of the record and nothing of Hydra's own among what varies"
    return _without_targets(parts, value)


def _leaves(value: Any, parts: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the settings in a tree, each with the keys on the way to it; those in a list have that of the list."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*parts, str(name)))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, parts)
    else:
        yield parts, value


DOORS: dict[str, Callable[[Keys, Any], str | None]] = {
    "callbacks": _nothing,
    "searchpath": _file_folder,
    "hydra_logging": _plain_logging,
    "job_logging": _plain_logging,
    "job.env_set": _nothing,
    "job.name": _file_name,
    "job.id": _file_name,
    "job.config.override_dirname": _file_name,
    "runtime.output_dir": _inside,
    "output_subdir": _inside,
    "run.dir": _inside,
    "sweep.dir": _inside,
    "sweep.subdir": _inside,
    "launcher": _without_commands,
    "sweeper": _values_only,
}


def check_search_path(primary: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Check the search path of a primary config, before Hydra imports the packages that it names.

    Raises:
        UserError: it names others than folders.
    """
    hydra = primary.get("hydra")
    named = hydra.get("searchpath") if isinstance(hydra, Mapping) else None
    found = list(shut_doors({"searchpath": named}, overrides))
    if found:
        raise UserError(*found)


@contextlib.contextmanager
def without_working_directory() -> Iterator[None]:
    """Look for Hydra's plugins as if the working directory were not on the import path.

    Under `python -m` it is, and Hydra imports every module of a folder `hydra_plugins` there.
    """
    if "allow_code=true" in sys.argv:
        yield
        return
    kept = list(sys.path)
    sys.path[:] = [path for path in kept if path not in ("", os.getcwd())]
    try:
        yield
    finally:
        sys.path[:] = kept


class _BoundedLoader:
    """Refuses a YAML document nested too deeply, or whose aliases would make it huge, before anything is made of it."""

    def get_single_data(self) -> Any:
        name = getattr(self, "name", "a config file")
        try:
            return super().get_single_data()  # type: ignore[misc]  # of the loader that this is mixed into
        except RecursionError:
            raise UserError(f"{name}: nested too deeply") from None

    def get_single_node(self) -> Any:
        node = super().get_single_node()  # type: ignore[misc]
        if node is not None and _size_of(node, {}) > MOST_NODES:
            name = getattr(self, "name", "a config file")
            raise UserError(f"{name}: expected at most {MOST_NODES:,} values, aliases counted each time")
        return node


def _size_of(node: yaml.Node, known: dict[int, int]) -> int:
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # of one that holds itself
        parts: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        own = 1 + (len(node.value) // CHARACTERS_A_NODE if isinstance(node, yaml.ScalarNode) else 0)
        known[id(node)] = min(own + sum(_size_of(part, known) for part in parts), 10 * MOST_NODES)
    return known[id(node)]


_omegaconfs_own = omegaconf_utils.get_yaml_loader


def _bounded_yaml_loader() -> Any:
    return type("BoundedLoader", (_BoundedLoader, _omegaconfs_own()), {})


def bound_yaml(is_bounded: bool = True) -> bool:
    """Make OmegaConf refuse YAML that grows without bounds, or not; return whether it did so before."""
    was_bounded = omegaconf_utils.get_yaml_loader is _bounded_yaml_loader
    for module in (omegaconf_utils, omegaconf_main):
        module.get_yaml_loader = _bounded_yaml_loader if is_bounded else _omegaconfs_own  # type: ignore[attr-defined]
    return was_bounded

"""The doors that a config file keeps shut: a stranger's YAML runs no code, imports nothing and writes nowhere else.

What the command line itself says is the user's own doing, and `allow_code=true` there opens all of them.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import omegaconf._utils as omegaconf_utils
import omegaconf.omegaconf as omegaconf_main
import yaml

from runner.errors import UserError
from runner.ranges import shown

# Far more than any config has; an alias that is repeated counts each time.
MOST_NODES = 20_000
LOGGING_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
COMMANDS = ("setup", "python", "srun_args", "additional_parameters")


def shut_doors(hydra: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each setting of Hydra's own that no config file may make.

    Args:
        hydra: the composed part of the config, unresolved.
        overrides: of the command line, whose settings are let through.
    """
    given = [override.lstrip("+~").partition("=")[0].replace("/", ".") for override in overrides]
    for key, check in DOORS.items():
        value: Any = hydra
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        path = f"hydra.{key}"
        is_own = any(name == path or name.startswith(f"{path}.") or path.startswith(f"{name}.") for name in given)
        if not is_own and (allowed := check(value)) is not None:
            yield f"{path}={shown(value)}: a config file cannot say so, expected {allowed}, or allow_code=true"


def _empty(value: Any) -> str | None:
    return None if not value else "nothing"


def _inside(value: Any) -> str | None:
    if value is None:
        return None
    path = PurePath(str(value))
    leaves = path.is_absolute() or ".." in path.parts or str(value).startswith("~")
    return "a folder within the working directory" if leaves else None


def _files_only(value: Any) -> str | None:
    is_list_of_files = all(isinstance(item, str) and item.startswith("file://") for item in value or ())
    return None if is_list_of_files else "file:// folders"


def _plain_logging(value: Any) -> str | None:
    for key, inner in _leaves(value):
        text = str(inner)
        if key == "()" or (key == "class" and text not in LOGGING_CLASSES):
            return "logging's own handlers"
        if "://" in text and text not in STREAMS:
            return " or ".join(STREAMS)
        if key == "filename" and _inside(inner) is not None:
            return "a file within the working directory"
    return None


def _without_commands(value: Any) -> str | None:
    settings = value if isinstance(value, Mapping) else {}
    if any(settings.get(key) for key in COMMANDS):
        return f"none of {', '.join(COMMANDS)}"
    return _without_targets(value)


def _without_targets(value: Any) -> str | None:
    inner = [item for key, item in value.items() if key != "_target_"] if isinstance(value, Mapping) else []
    nested = any(key == "_target_" for item in inner for key, _ in _leaves(item))
    return "no _target_ within it" if nested else None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


DOORS: dict[str, Callable[[Any], str | None]] = {
    "callbacks": _empty,
    "searchpath": _files_only,
    "hydra_logging": _plain_logging,
    "job_logging": _plain_logging,
    "job.env_set": _empty,
    "output_subdir": _inside,
    "run.dir": _inside,
    "sweep.dir": _inside,
    "sweep.subdir": _inside,
    "launcher": _without_commands,
    "sweeper": _without_targets,
}


def check_search_path(primary: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Check the search path of a primary config, before Hydra imports the packages that it names.

    Raises:
        UserError: it names others than folders.
    """
    hydra = primary.get("hydra")
    found = list(shut_doors({"searchpath": (hydra or {}).get("searchpath")}, overrides))
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
    """Refuses a YAML document whose aliases would make it huge, before anything is made of it."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()  # type: ignore[misc]  # of the loader that this is mixed into
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
        known[id(node)] = min(1 + sum(_size_of(part, known) for part in parts), 10 * MOST_NODES)
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

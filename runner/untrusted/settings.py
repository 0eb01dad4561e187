"""Hydra's settings that are refused in config files: a file runs no code, imports nothing and writes nowhere else.

The command line is trusted; `allow_code=true` there allows all of them in config files, too.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.config.folders import is_within
from runner.config.hydra_private import BASIC_PLUGINS
from runner.config.interpolation import PUBLIC
from runner.config.uris import sqlite_path
from runner.messages.errors import UserError
from runner.messages.overrides import allows_code, key_of, split_override
from runner.messages.ranges import shown
from runner.messages.redaction import Hidden
from runner.untrusted.hydra_paths import EXPECTED, PATH_INTERPOLATION

# The keys on the way to a setting, within `hydra`.
Keys: TypeAlias = tuple[str, ...]
COMMANDS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env", "address")
# What submitit's parameters may ask for; others hold commands, or paths to write to.
RESOURCES = (
    *("name", "timeout_min", "cpus_per_task", "mem_gb", "gpus_per_node"),
    *(f"slurm_{name}" for name in ("partition", "account", "qos", "constraint", "time", "cpus_per_gpu", "mem_per_cpu")),
)
DATABASE = (
    "a new path inside outputs/ without links, as in sqlite:///outputs/mine.db; "
    "a server or another database on the command line or in MLFLOW_TRACKING_URI"
)
# The environment variable for where to record, as the runner's own files refer to it.
PUBLIC_VALUE = re.compile(rf"\$\{{oc\.env:({'|'.join(PUBLIC.values())})(?:,[^${{}}]*)?\}}")
# Launchers and sweepers whose settings are known; others may take a command, an address or a database.
KNOWN_PLUGINS = (
    "hydra_plugins.runner.",
    "hydra_plugins.hydra_joblib_launcher.",
    "hydra_plugins.hydra_submitit_launcher.",
    BASIC_PLUGINS,
)
LEVELS = "levels of loggers only, as in root.level or loggers.NAME.level"


def refused_hydra_settings(
    hydra: Mapping[str, Any], installed: Mapping[str, Mapping[str, Any]], overrides: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each of Hydra's settings that is refused in a config file.

    Args:
        hydra: the key `hydra` of the composed config, unresolved.
        installed: by group, the settings of the chosen option if it is an installed one.
        overrides: those of the command line, whose settings are allowed.
    """
    given = given_keys(overrides)
    given += [f"hydra.job.env_set.{name}" for name in (hydra.get("job") or {}).get("env_copy") or ()]  # reported once
    for parts, value in _leaves(hydra):
        path = ".".join(("hydra", *parts))
        is_given = any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in given)
        if not is_given and (allowed := _allowed_instead(parts, value, hydra, installed)) is not None:
            yield f"{path}={shown(value)}: not allowed in a config file, expected {allowed}, or allow_code=true"
    recorded = hydra.get("overrides") or {}
    for kind in ("hydra", "task"):
        for text in recorded.get(kind) or ():
            if text not in overrides:
                yield f"hydra.overrides.{kind}={shown(text)}: not allowed in a config file, expected as an argument"


def given_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that the command line sets; a choice of a group sets none of its keys."""
    keys = [key_of(override) for override in overrides]
    return [key for key in keys if "/" not in key]


def chosen_groups(overrides: Sequence[str]) -> list[str]:
    """Return the groups of Hydra's own whose options the command line chooses."""
    keys = [key_of(override) for override in overrides]
    return [key.removeprefix("hydra/") for key in keys if key.startswith("hydra/")]


def refused_tracking(written: Mapping[str, Any], values: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each setting with which a config file would record elsewhere, or send secrets.

    Args:
        written: the settings of tracking in config files, by key, unresolved.
        values: the same, resolved; what comes from the environment is hidden.
        overrides: those of the command line, whose settings are allowed.
    """
    texts = [split_override(override) for override in overrides]
    given = [one.key for one in texts if one.key != "tracking" or (one.value or "").startswith("{")]  # not an option
    for key, text in written.items():
        if f"tracking.{key}" in given or "tracking" in given or values.get(key) is None:
            continue
        path, refused = str(values[key]), f"tracking.{key}={shown(text)}: not allowed in a config file, expected"
        variable = PUBLIC_VALUE.fullmatch(str(text))
        variable = variable if variable is not None and variable[1] == PUBLIC.get(key) else None
        if variable is not None and os.environ.get(variable[1]):
            continue
        if isinstance(values[key], Hidden) or ("oc.env" in str(text) and variable is None):
            yield f"{refused} environment variables on the command line only"
        elif key == "uri" and (sqlite_path(path) is None or "?" in path or not is_within(str(sqlite_path(path)))):
            yield f"{refused} {DATABASE}"
        elif key == "artifacts" and not is_within(path):
            yield f"{refused} {EXPECTED}"


def _allowed_instead(
    parts: Keys, value: Any, hydra: Mapping[str, Any], installed: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Return what is allowed instead of a setting in a config file; None where the setting is allowed."""
    path = ".".join(parts)
    for setting, check in CHECKS.items():
        if (path == setting or path.startswith(f"{setting}.")) and value not in (None, "", [], {}):
            if check is _levels:
                return None if _is_installed(parts, value, installed) else _levels(parts, value)
            if setting in ("launcher", "sweeper") and not _is_known(hydra.get(setting)):
                return None if _is_installed(parts, value, installed) else f"no settings of this {setting}"
            plain = PATH_INTERPOLATION.sub("x", value) if isinstance(value, str) else value
            if "${" in str(plain):
                return "no interpolations but those of Hydra's job, folders and time"
            return check(parts, plain)
    return None


def _is_known(plugin: Any) -> bool:
    """Return whether the settings of a launcher or sweeper are known."""
    target = plugin.get("_target_") if isinstance(plugin, Mapping) else None
    return target is None or str(target).startswith(KNOWN_PLUGINS)


def _is_installed(parts: Keys, value: Any, installed: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a setting is that of the chosen, installed option."""
    expected: Any = installed
    for part in parts:
        expected = expected.get(part) if isinstance(expected, Mapping) else None
    return bool(value in expected) if isinstance(expected, list) else bool(value == expected)


def _nothing(_parts: Keys, _value: Any) -> str | None:
    return "nothing"


def _path(_parts: Keys, value: Any) -> str | None:
    return None if str(value).isprintable() else "a path of characters that can be printed"


def _false(_parts: Keys, value: Any) -> str | None:
    return None if value is False else "false"


def _missing(_parts: Keys, value: Any) -> str | None:
    return None if value == "???" else "nothing"


def _file_name(_parts: Keys, value: Any) -> str | None:
    is_name = re.fullmatch(r"\w[\w.-]*|\?\?\?", str(value)) is not None
    return None if is_name else "a name of letters, digits, - and _"


def _separator(_parts: Keys, value: Any) -> str | None:
    return "a text without slashes" if "/" in str(value) or "\n" in str(value) else None


def _file_folder(_parts: Keys, value: Any) -> str | None:
    return None if str(value).startswith("file://") else "file:// folders"


def _levels(parts: Keys, value: Any) -> str | None:
    """Allow levels of logging, but no handlers, files or classes."""
    is_flag = parts[1:] in (("version",), ("disable_existing_loggers",)) and isinstance(value, bool | int)
    is_of_logger = parts[1:] == ("root", "level") or (len(parts) == 4 and parts[1] == "loggers")
    is_level = parts[-1] == "level" and re.fullmatch(r"[A-Z]+|\d{1,4}", str(value)) is not None
    return None if is_flag or (is_of_logger and is_level) else LEVELS


def _without_commands(parts: Keys, value: Any) -> str | None:
    if parts[1] in COMMANDS or "\n" in str(value):
        return f"none of {', '.join(COMMANDS)}, and no line breaks"
    if parts[1] == "parameters" and (parts[-1] not in RESOURCES or not re.fullmatch(r"[\w.,:|&-]*", str(value))):
        return f"words or numbers for {', '.join(RESOURCES)} only"
    return _without_targets(parts, value)


def _without_targets(parts: Keys, _value: Any) -> str | None:
    return "no _target_ within it" if "_target_" in parts[2:] else None


def _values_only(parts: Keys, value: Any) -> str | None:
    if parts[1] == "storage":
        return "nothing, expected on the command line"
    swept = parts[2].lstrip("+~ ") if len(parts) > 2 else ""
    if re.match(r"(allow_code|hydra|tracking)\b", swept) and not (
        swept == "tracking" and re.fullmatch(r"[\w,]+", value)
    ):
        return "no allow_code, tracking or settings of Hydra among what is swept"
    return _without_targets(parts, value)


def _leaves(value: Any, parts: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the settings in a tree, each with the keys on the way to it; items of a list have those of the list."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*parts, str(name)))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, parts)
    else:
        yield parts, value


CHECKS: dict[str, Callable[[Keys, Any], str | None]] = {
    "callbacks": _nothing,
    "searchpath": _file_folder,
    "hydra_logging": _levels,
    "job_logging": _levels,
    "job.env_set": _nothing,
    "job.env_copy": _nothing,
    "job.chdir": _false,  # paths are checked relative to the working directory
    "job.name": _file_name,
    "job.id": _file_name,
    "job.config.override_dirname": _separator,
    "runtime.output_dir": _missing,
    "output_subdir": _path,  # `hydra_paths` checks where
    "run.dir": _path,
    "sweep.dir": _path,
    "sweep.subdir": _path,
    "sweep.mode": _nothing,
    "launcher": _without_commands,
    "sweeper": _values_only,
}


def check_search_path(primary: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Check the search path of a primary config, before Hydra imports the packages that it names.

    Raises:
        UserError: it names anything but folders.
    """
    hydra = primary.get("hydra")
    named = hydra.get("searchpath") if isinstance(hydra, Mapping) else None
    found = list(refused_hydra_settings({"searchpath": named}, {}, overrides))
    if found:
        raise UserError(*found)


@contextlib.contextmanager
def without_working_directory() -> Iterator[None]:
    """Remove the working directory from the import path while Hydra looks for plugins.

    `python -m` adds it, and Hydra imports every module of a folder `hydra_plugins` there.
    """
    if allows_code(sys.argv[1:]):
        yield
        return
    kept = list(sys.path)
    sys.path[:] = [path for path in kept if path not in ("", os.getcwd())]
    try:
        yield
    finally:
        sys.path[:] = kept

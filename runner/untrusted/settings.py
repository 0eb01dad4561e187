"""The doors that a config file keeps shut: a stranger's YAML runs no code, imports nothing and writes nowhere else.

What the command line itself says is the user's own doing, and `allow_code=true` there opens all of them.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.config.environment import PUBLIC
from runner.config.folders import is_within
from runner.config.uris import sqlite_path
from runner.messages.errors import UserError
from runner.messages.overrides import allows_code, key_of, split_override
from runner.messages.ranges import shown
from runner.messages.redaction import Hidden
from runner.untrusted.hydra_paths import EXPECTED, HARMLESS

# Of a setting, those on the way to it.
Keys: TypeAlias = tuple[str, ...]
COMMANDS = ("setup", "python", "srun_args", "additional_parameters")
DATABASE = (
    "a new place within outputs/ to which no link leads, as in sqlite:///outputs/mine.db; "
    "a server or another database on the command line or in MLFLOW_TRACKING_URI"
)
# What the user's environment says of where to record, as in our own files.
PUBLIC_VALUE = re.compile(rf"\$\{{oc\.env:({'|'.join(PUBLIC.values())})(?:,[^${{}}]*)?\}}")
LEVELS = "levels of loggers only, as in root.level or loggers.NAME.level"


def shut_doors(
    hydra: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], overrides: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each setting of Hydra's own that no config file may make.

    Args:
        hydra: the composed part of the config, unresolved.
        own: of its groups, what the chosen option says where no stranger has made it.
        overrides: of the command line, whose settings are let through.
    """
    given = given_by(overrides)
    given += [f"hydra.job.env_set.{name}" for name in (hydra.get("job") or {}).get("env_copy") or ()]  # told of that
    for parts, value in _leaves(hydra):
        path = ".".join(("hydra", *parts))
        is_own = any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in given)
        if not is_own and (allowed := _unlike_allowed(parts, value, own)) is not None:
            yield f"{path}={shown(value)}: a config file cannot say so, expected {allowed}, or allow_code=true"
    said = hydra.get("overrides") or {}
    for kind in ("hydra", "task"):
        for text in said.get(kind) or ():
            if text not in overrides:
                yield f"hydra.overrides.{kind}={shown(text)}: a config file cannot say so, expected it as an argument"


def given_by(overrides: Sequence[str]) -> list[str]:
    """Return the keys that the command line sets; a choice of a group sets none of its keys."""
    keys = [key_of(override) for override in overrides]
    return [key for key in keys if "/" not in key]


def chosen_by(overrides: Sequence[str]) -> list[str]:
    """Return the groups of Hydra's own whose options the command line chooses."""
    keys = [key_of(override) for override in overrides]
    return [key.removeprefix("hydra/") for key in keys if key.startswith("hydra/")]


def shut_places(written: Mapping[str, Any], said: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each setting by which a config file would have a record go elsewhere, or secrets with it.

    Args:
        written: what a config file sets of tracking, by key, interpolations unresolved.
        said: the same, resolved; what comes from the environment is hidden.
        overrides: of the command line, whose settings are let through.
    """
    texts = [split_override(override) for override in overrides]
    given = [one.key for one in texts if one.key != "tracking" or (one.value or "").startswith("{")]  # no choice
    for key, text in written.items():
        if f"tracking.{key}" in given or "tracking" in given or said.get(key) is None:
            continue
        place, refused = str(said[key]), f"tracking.{key}={shown(text)}: a config file cannot say so, expected"
        variable = PUBLIC_VALUE.fullmatch(str(text))
        variable = variable if variable is not None and variable[1] == PUBLIC.get(key) else None
        if variable is not None and os.environ.get(variable[1]):
            continue
        if isinstance(said[key], Hidden) or ("oc.env" in str(text) and variable is None):
            yield f"{refused} what comes from the environment to be given on the command line"
        elif key == "uri" and (sqlite_path(place) is None or "?" in place or not is_within(str(sqlite_path(place)))):
            yield f"{refused} {DATABASE}"
        elif key == "artifacts" and not is_within(place):
            yield f"{refused} {EXPECTED}"


def _unlike_allowed(parts: Keys, value: Any, own: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what is allowed where a config file's setting is none of that."""
    path = ".".join(parts)
    for door, check in DOORS.items():
        if (path == door or path.startswith(f"{door}.")) and value not in (None, "", [], {}):
            if check is _levels:
                return None if _is_own(parts, value, own) else _levels(parts, value)
            plain = HARMLESS.sub("x", value) if isinstance(value, str) else value
            if "${" in str(plain):
                return "no interpolation but of Hydra's own job, folders and time"
            return check(parts, plain)
    return None


def _is_own(parts: Keys, value: Any, own: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a setting is that of the option which was chosen."""
    theirs: Any = own
    for part in parts:
        theirs = theirs.get(part) if isinstance(theirs, Mapping) else None
    return bool(value in theirs) if isinstance(theirs, list) else bool(value == theirs)


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
    """Let logging be told how much to say, and nothing of where or by what."""
    is_flag = parts[1:] in (("version",), ("disable_existing_loggers",)) and isinstance(value, bool | int)
    is_of_logger = parts[1:] == ("root", "level") or (len(parts) == 4 and parts[1] == "loggers")
    is_level = parts[-1] == "level" and re.fullmatch(r"[A-Z]+|\d{1,4}", str(value)) is not None
    return None if is_flag or (is_of_logger and is_level) else LEVELS


def _without_commands(parts: Keys, value: Any) -> str | None:
    if parts[1] in COMMANDS or "\n" in str(value):
        return f"none of {', '.join(COMMANDS)}, and no line breaks"
    return _without_targets(parts, value)


def _without_targets(parts: Keys, _value: Any) -> str | None:
    return "no _target_ within it" if "_target_" in parts[2:] else None


def _values_only(parts: Keys, value: Any) -> str | None:
    swept = parts[2].lstrip("+~ ") if len(parts) > 2 else ""
    if re.match(r"(allow_code|hydra|tracking)\b", swept) and not (
        swept == "tracking" and re.fullmatch(r"[\w,]+", value)
    ):
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
    "hydra_logging": _levels,
    "job_logging": _levels,
    "job.env_set": _nothing,
    "job.env_copy": _nothing,
    "job.chdir": _false,  # places are checked from here
    "job.name": _file_name,
    "job.id": _file_name,
    "job.config.override_dirname": _separator,
    "runtime.output_dir": _missing,
    "output_subdir": _path,  # `hydra_places` says where
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
        UserError: it names others than folders.
    """
    hydra = primary.get("hydra")
    named = hydra.get("searchpath") if isinstance(hydra, Mapping) else None
    found = list(shut_doors({"searchpath": named}, {}, overrides))
    if found:
        raise UserError(*found)


@contextlib.contextmanager
def without_working_directory() -> Iterator[None]:
    """Look for Hydra's plugins as if the working directory were not on the import path.

    Under `python -m` it is, and Hydra imports every module of a folder `hydra_plugins` there.
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

"""Where a run comes from: its config as params and YAML, the versions and the commit it ran with."""

import functools
import getpass
import os
import platform
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

from runner import __version__
from runner.config import Config
from runner.hiding import shown_tree
from runner.ranges import shown
from runner.tracking.processes import process_tags

GIT_SECONDS = 5
# The one written in C, where there is one, is ten times as fast.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@functools.cache
def look() -> subprocess.Popen[str] | None:
    """Start asking git for the commit, so that the answer is there when it is wanted."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch"]
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:  # no git on this machine
        return None


@functools.cache
def git_tags() -> dict[str, str]:
    """Return the commit of the working directory, and whether something in it was not committed."""
    git = look()
    if git is None:
        return {}
    try:
        lines = git.communicate(timeout=GIT_SECONDS)[0].splitlines()
    except subprocess.TimeoutExpired:
        git.kill()
        return {}
    if git.returncode != 0:  # not a checkout
        return {}
    commit = next(line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid "))
    is_dirty = any(not line.startswith("#") for line in lines)
    return {"git.commit": commit, "git.dirty": str(is_dirty).lower()}


def tags_of(config: Config) -> dict[str, str]:
    """Return the tags of a run: the config's own, then the versions and the commit."""
    own = {key: str(value) for key, value in shown_tree(config.tags).items()}
    return own | {
        "mlflow.user": _user(),
        "mlflow.source.name": "runner",
        "mlflow.source.type": "LOCAL",
        "version.python": platform.python_version(),
        "version.runner": __version__,
        **process_tags(),
        **git_tags(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's, that has no name
        return str(os.getuid())


def params_of(config: Config) -> dict[str, str]:
    """Return every leaf of the config under its dotted name; a list is a leaf."""
    return dict(_leaves(_public_tree(config), ""))


def config_yaml(config: Config) -> str:
    """Return the config as YAML."""
    text: str = yaml.dump(_public_tree(config), Dumper=Dumper, sort_keys=False)
    return text


def _public_tree(config: Config) -> dict[str, Any]:
    tree = vars(config) | {"log_every": config.recorded_every, "tracking": vars(config.tracking)}
    public: dict[str, Any] = shown_tree(tree)
    return public


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else shown(value, limit=None)

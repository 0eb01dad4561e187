"""Finds the settings of a composed config that come from config files and are refused there."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from runner.config import hydra_values
from runner.config.hydra_private import IConfigRepository
from runner.config.plain import hidden_at, unresolved
from runner.config.shipped import config_folder, public_words
from runner.messages.overrides import allows_code, key_of
from runner.messages.ranges import shown
from runner.messages.redaction import HIDDEN, Hidden, note, shown_override, shown_tree
from runner.untrusted.hydra_paths import OutputPaths
from runner.untrusted.settings import chosen_groups, given_keys, refused_hydra_settings, refused_tracking

# Hydra's groups whose options may name paths, and the runner's options of them, which name none.
DEFAULT_OPTIONS = {"hydra_logging": "none", "job_logging": "none", "launcher": "batched", "sweeper": "grid"}
# An override whose value is one environment variable and nothing else.
ENVIRONMENT_VARIABLE = re.compile(r"[^=]*=['\"]?\$\{oc\.env:\w+\}['\"]?")


def refused_settings(
    cfg: DictConfig, overrides: Sequence[str], repository: IConfigRepository, is_sweep: bool, is_job: bool
) -> list[str]:
    """Return a line for each setting that is refused in a config file, and each path that no run may write to.

    Args:
        cfg: the composed config.
        overrides: those of the command line.
        repository: the config files.
        is_sweep: the config is that of a sweep or of a job of one.
        is_job: it is that of a job.
    """
    hydra, choices = unresolved(cfg.hydra), cfg.hydra.runtime.choices
    for name in cfg.hydra.job.env_copy:  # Hydra has put their values into the config
        note(os.environ[name], public_words())
    changed = [group for group, option in DEFAULT_OPTIONS.items() if choices.get(f"hydra/{group}") != option]
    installed = {group: _installed(f"hydra/{group}", cfg, repository) for group in changed}
    found, given, chosen = [], list(hydra), list(DEFAULT_OPTIONS)
    if not allows_code(overrides):
        found = [
            *refused_hydra_settings(hydra, installed, overrides),
            *refused_runner_settings(cfg, overrides, repository),
        ]
        given, chosen = [key.removeprefix("hydra.") for key in given_keys(overrides)], chosen_groups(overrides)
    reported = {line.partition("=")[0] for line in found}
    paths = OutputPaths(hydra, installed, given, chosen, is_sweep, is_job)
    return found + [line for line in paths.refused() if line.partition("=")[0] not in reported]


def written_secrets(cfg: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each secret that submitit would write to the files of its jobs."""
    if "submitit" not in str(cfg.hydra.launcher.get("_target_")):
        return
    launcher = cfg.hydra.runtime.choices.get("hydra/launcher")
    instead = f"hydra/launcher={launcher} would write it to a file, expected ${{oc.env:NAME}} instead"
    reported = []
    for text in overrides:
        if shown_override(text) != text and ENVIRONMENT_VARIABLE.fullmatch(text) is None:
            reported.append(key_of(text))
            yield f"{shown_override(text)}: {instead}"
    for path, value in _texts({key: value for key, value in unresolved(cfg).items() if key != "hydra"}):
        is_reported = any(path == key or path.startswith(f"{key}.") for key in reported)
        if "${" not in value and not is_reported and shown_tree({path: value}) != {path: value}:
            yield f"{path}={HIDDEN}: {instead}"
    for name in cfg.hydra.job.env_copy:
        yield f"hydra.job.env_copy={name}: {instead}"


def _texts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted path and text of each value in a tree."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for inner in tree:
            yield from _texts(inner, path)
    elif tree is not None:
        yield path, str(tree)


def refused_runner_settings(cfg: DictConfig, overrides: Sequence[str], repository: IConfigRepository) -> Iterator[str]:
    """Yield a line for each setting of the runner itself that is refused in a config file."""
    if cfg.get("allow_code") is True:
        yield "allow_code=true: not allowed in a config file, expected on the command line"
    cfg = hydra_values.with_hydra_values(cfg, is_job=True)
    tracking, installed = unresolved(cfg.get("tracking")), _installed("tracking", cfg, repository)
    changed = {key: value for key, value in tracking.items() if value != installed.get(key)}
    values = {key: hidden_at(cfg, f"tracking.{key}", value) for key, value in changed.items()}
    yield from refused_tracking(changed, values, overrides)
    parent = unresolved(cfg).get("parent_run")
    if "parent_run" not in given_keys(overrides) and isinstance(hidden_at(cfg, "parent_run", parent), Hidden):
        yield f"parent_run={shown(parent)}: not allowed in a config file, expected the id of a run"


def _installed(group: str, cfg: DictConfig, repository: IConfigRepository) -> dict[str, Any]:
    """Return the settings of the chosen option if its file is the runner's, Hydra's or an installed plugin's."""
    loaded = repository.load_config(f"{group}/{cfg.hydra.runtime.choices.get(group)}")
    if loaded is None or (loaded.path.startswith("file://") and loaded.path != f"file://{config_folder()}"):
        return {}
    return unresolved(loaded.config)

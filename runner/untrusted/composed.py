"""What of a composed config strangers have made: settings that no config file may make, and places it may not name."""

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
from runner.untrusted.hydra_paths import Places
from runner.untrusted.settings import chosen_by, given_by, shut_doors, shut_places

# Hydra's groups that may name places, and our options of them, which do not.
PLACES = {"hydra_logging": "none", "job_logging": "none", "launcher": "batched"}
# A setting that is a variable of the environment's and nothing else.
FROM_ENVIRONMENT = re.compile(r"[^=]*=['\"]?\$\{oc\.env:\w+\}['\"]?")


def shut_out(
    cfg: DictConfig, overrides: Sequence[str], repository: IConfigRepository, is_sweep: bool, is_job: bool
) -> list[str]:
    """Return a line for each setting that no config file may make, and each place that no run may write to.

    Args:
        cfg: what is composed.
        overrides: of the command line.
        repository: where configs are found.
        is_sweep: a sweep is composed, or a job of one.
        is_job: a job is.
    """
    hydra, choices = unresolved(cfg.hydra), cfg.hydra.runtime.choices
    for name in cfg.hydra.job.env_copy:  # Hydra has put them into the config
        note(os.environ[name], public_words())
    others = [group for group, ours in PLACES.items() if choices.get(f"hydra/{group}") != ours]
    own = {group: _own(f"hydra/{group}", cfg, repository) for group in others}
    found, given, chosen = [], list(hydra), list(PLACES)
    if not allows_code(overrides):
        found = [*shut_doors(hydra, own, overrides), *strangers_in(cfg, overrides, repository)]
        given, chosen = [key.removeprefix("hydra.") for key in given_by(overrides)], chosen_by(overrides)
    told = {line.partition("=")[0] for line in found}
    places = Places(hydra, own, given, chosen, is_sweep, is_job)
    return found + [line for line in places.misplaced() if line.partition("=")[0] not in told]


def pickled(cfg: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a line for each secret that submitit would write into files with the jobs of a sweep."""
    if "submitit" not in str(cfg.hydra.launcher.get("_target_")):
        return
    launcher = cfg.hydra.runtime.choices.get("hydra/launcher")
    instead = f"hydra/launcher={launcher} would write it into a file, expected ${{oc.env:NAME}} in its place"
    told = []
    for text in overrides:
        if shown_override(text) != text and FROM_ENVIRONMENT.fullmatch(text) is None:
            told.append(key_of(text))
            yield f"{shown_override(text)}: {instead}"
    for path, value in _texts({key: value for key, value in unresolved(cfg).items() if key != "hydra"}):
        is_told = any(path == key or path.startswith(f"{key}.") for key in told)
        if "${" not in value and not is_told and shown_tree({path: value}) != {path: value}:
            yield f"{path}={HIDDEN}: {instead}"
    for name in cfg.hydra.job.env_copy:
        yield f"hydra.job.env_copy={name}: {instead}"


def _texts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a tree holds, as texts, under the keys on the way there."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for inner in tree:
            yield from _texts(inner, path)
    elif tree is not None:
        yield path, str(tree)


def strangers_in(cfg: DictConfig, overrides: Sequence[str], repository: IConfigRepository) -> Iterator[str]:
    """Yield a line for each of our own settings that no config file may make."""
    if cfg.get("allow_code") is True:
        yield "allow_code=true: a config file cannot say so, expected it on the command line"
    cfg = hydra_values.known(cfg, is_job=True)
    tracking, ours = unresolved(cfg.get("tracking")), _own("tracking", cfg, repository)
    theirs = {key: value for key, value in tracking.items() if value != ours.get(key)}
    said = {key: hidden_at(cfg, f"tracking.{key}", value) for key, value in theirs.items()}
    yield from shut_places(theirs, said, overrides)
    parent = unresolved(cfg).get("parent_run")
    if "parent_run" not in given_by(overrides) and isinstance(hidden_at(cfg, "parent_run", parent), Hidden):
        yield f"parent_run={shown(parent)}: a config file cannot say so, expected the id of a run"


def _own(group: str, cfg: DictConfig, repository: IConfigRepository) -> dict[str, Any]:
    """Return what the file of the chosen option says where it is ours, Hydra's or an installed plugin's."""
    loaded = repository.load_config(f"{group}/{cfg.hydra.runtime.choices.get(group)}")
    if loaded is None or (loaded.path.startswith("file://") and loaded.path != f"file://{config_folder()}"):
        return {}
    return unresolved(loaded.config)

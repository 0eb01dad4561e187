"""Hydra's composition for one job, shared by all jobs with the same groups: their values are set in copies of it."""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config import hydra_values
from runner.config.plain import plain, plain_at, unresolved
from runner.config.schema import TYPED, Config
from runner.messages.errors import UserError
from runner.sweeps.axes import overlap

Tree = dict[str, Any]


@dataclass
class Composed:
    """A composed config, from which the configs of other jobs are made by setting values.

    Attributes:
        written: the config as it was composed, interpolations unresolved.
        declared: what the YAML files of its groups declare.
        tree: the resolved config; None where the values cannot be set in a copy of it.
        derived: the paths of values with interpolations.
        uses_hydra_values: whether an interpolation uses a value that Hydra sets for each job.
    """

    cfg: DictConfig
    written: Tree
    declared: Tree
    tree: Tree | None
    derived: Sequence[str]
    uses_hydra_values: bool
    _groups: Tree = field(default_factory=dict)

    def config_of(self, tree: Tree) -> Config:
        """Return the config of a checked tree of `with_values`; groups that are as composed are shared by all jobs."""
        shared = [key for key in TYPED if self.tree is not None and tree[key] is self.tree[key]]
        for key in shared:
            if key not in self._groups:
                self._groups[key] = TYPED[key].from_tree(tree[key])
        return Config.of(tree, {key: self._groups[key] for key in shared})

    @classmethod
    def of(cls, cfg: DictConfig, declared: Tree, overrides: Sequence[Override], settable: Sequence[str]) -> Self:
        """Prepare a config that Hydra has composed.

        Args:
            cfg: the config.
            declared: what the YAML files of its groups declare.
            overrides: what it was composed of.
            settable: the paths at which other jobs have other values.

        Raises:
            UserError: an interpolation cannot be resolved.
        """
        uses_hydra_values = hydra_values.refers_to_hydra(cfg)
        if uses_hydra_values:
            _update(cfg, hydra_values.job_values(cfg, 0, overrides))
            hydra_values.set_output_dir(cfg)
        written = {key: value for key, value in unresolved(cfg).items() if key != "hydra"}
        derived = list(_derived(written))
        tree = _resolved(cfg, may_fail=bool(derived))
        are_leaves = all(_lies_in_mappings(tree, path) and _lies_in_mappings(written, path) for path in settable)
        are_independent = not any(overlap(path, other) for path in settable for other in derived)
        has_dotted_keys = not all(_lies_in_mappings(written, path) for path in derived)
        can_copy = are_leaves and are_independent and not has_dotted_keys
        return cls(cfg, written, declared, tree if can_copy else None, derived, uses_hydra_values)

    def hydra_values(self, number: int, overrides: Sequence[Override]) -> Tree:
        """Return the values that Hydra would set for a job, by path; empty if no interpolation uses them."""
        return hydra_values.job_values(self.cfg, number, overrides) if self.uses_hydra_values else {}

    def with_values(self, settings: Sequence[Override], of_hydra: Tree) -> Tree:
        """Return the resolved config of a job that has these values.

        Raises:
            UserError: an interpolation cannot be resolved.
        """
        values = of_hydra | {override.key_or_group: override.value() for override in settings}
        if self.tree is None:
            cfg = copy.deepcopy(self.cfg)
            self._update(cfg, values)
            return plain(cfg)
        tree = dict(self.tree)
        copied = {""}
        for override in settings:
            _set(tree, override.key_or_group.split("."), override.value(), copied)
        if self.derived:
            self._resolve_derived(tree, values, copied)
        return tree

    def _update(self, cfg: DictConfig, values: Tree) -> None:
        _update(cfg, values)
        if self.uses_hydra_values:
            hydra_values.set_output_dir(cfg)

    def _resolve_derived(self, tree: Tree, values: Tree, copied: set[str]) -> None:
        """Resolve interpolations again; in the config itself, since copying it would take much longer."""
        self._update(self.cfg, values)
        try:
            for path in self.derived:
                _set(tree, path.split("."), plain_at(self.cfg, path, _at(self.written, path)), copied)
        except OmegaConfBaseException:
            plain(self.cfg)  # raises an error that says in one line what cannot be resolved
            raise
        finally:
            _update(self.cfg, {path: _at(self.written, path) for path in values if not path.startswith("hydra.")})


def _update(cfg: DictConfig, values: Tree) -> None:
    for path, value in values.items():
        OmegaConf.update(cfg, path, value, merge=True, force_add=True)


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree


def _set(tree: Tree, path: list[str], value: Any, copied: set[str]) -> None:
    """Set a leaf, copying each mapping above it once."""
    for depth, part in enumerate(path[:-1], start=1):
        above = ".".join(path[:depth])
        if above not in copied:
            tree[part] = dict(tree[part])
            copied.add(above)
        tree = tree[part]
    tree[path[-1]] = value


def _resolved(cfg: DictConfig, may_fail: bool) -> Tree | None:
    """Return the resolved config; None where it cannot be resolved for this job, but perhaps for others."""
    try:
        return plain(cfg)
    except UserError:
        if may_fail:
            return None
        raise


def _lies_in_mappings(tree: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _derived(tree: Tree, prefix: str = "") -> Iterator[str]:
    """Yield the paths of values with interpolations of other values, not only of the environment."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _derived(value, f"{path}.")
        elif any(re.search(r"\$\{(?!oc\.env:[^$]*\}|hydra:[^$]*\})", text) for text in _texts(value) if "${" in text):
            yield path


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value

"""From what a sweep is asked to vary to its jobs, each with the config that Hydra would compose for it.

Hydra composes once for each distinct choice of groups and of what changes the shape of the config; the other
overrides set numbers and texts in copies of the result. All jobs are checked before the first one starts.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hydra.core.override_parser.types import Override, OverrideType, ValueType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.composition.composition import mistakes_in
from runner.config import hydra_values
from runner.config.plain import plain, plain_at, unresolved
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.messages.overrides import without_plus
from runner.messages.ranges import is_whole, shown
from runner.messages.redaction import shown_override
from runner.sweeps.job import Job, named
from runner.sweeps.labels import labelled
from runner.sweeps.language import Axis, SweepRequest, overlap

MISTAKES_IN_FULL = 5
Tree = dict[str, Any]
Mistakes = list[tuple[str, str]]


class JobLoader(Protocol):
    """Composes the configs of jobs."""

    def load_job(self, master: DictConfig, overrides: list[str]) -> tuple[DictConfig, Tree]:
        """Return the composed config, with only its composition checked, and what its groups' files declare."""

    def is_group(self, key: str) -> bool:
        """Return whether a key chooses an option of a config group."""


def plan(request: SweepRequest, loader: JobLoader, master: DictConfig) -> list[Job]:
    """Return the jobs of a sweep, in order.

    Raises:
        UserError: with the mistakes of all jobs, a few in full and the rest counted; or no job is left.
    """
    planner = _Planner(request, loader, master)
    jobs: list[Job] = []
    mistakes: Mistakes = []
    asked = 0
    for combination in request.combinations():
        for repeat in range(request.repeats):
            asked += 1
            try:
                job = planner.job(combination, repeat, number=len(jobs))
            except UserError as error:
                name = " ".join(
                    shown_override(without_plus(override.input_line or "")) for override in planner.varying(combination)
                )
                mistakes.append((name, "; ".join(error.lines)))
            else:
                jobs += [] if job is None else [job]
    raise_all(mistakes, asked)
    if not jobs:
        assert request.where is not None
        raise UserError(f"where={request.where.formula.text}: none of the {asked} combinations is left")
    return labelled(named(jobs))


def raise_all(mistakes: Mistakes, jobs: int) -> None:
    """Raise the mistakes of jobs, given with the jobs' names, together.

    Raises:
        UserError: a few mistakes in full, each once, and the number of the others.
    """
    if not mistakes:
        return
    by_text: dict[str, list[str]] = {}
    for name, text in mistakes:
        by_text.setdefault(text, []).append(name)
    told = list(by_text.items())[:MISTAKES_IN_FULL]
    lines = [f"{text} (job {names[0]}{_and_more(names)})" if names[0] else text for text, names in told]
    more = len(mistakes) - sum(len(names) for _, names in told)
    raise UserError(*lines, *([f"and {more} more of {jobs} jobs"] if more else []))


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1:,} more" if len(names) > 1 else ""


@dataclass
class _Base:
    """What the jobs of one structure share: Hydra's composition for the first of them.

    Attributes:
        written: the config as it was composed, interpolations unresolved.
        declared: what the YAML files of its groups declare.
        tree: the resolved config; None where what varies cannot be set in a copy of it.
        derived: the paths of values that are made of others.
        takes_from_hydra: some of these are made of what Hydra knows of a job.
    """

    cfg: DictConfig
    written: Tree
    declared: Tree
    tree: Tree | None
    derived: Sequence[str]
    takes_from_hydra: bool

    def of_hydra(self, number: int, overrides: Sequence[Override]) -> Tree:
        """Return what Hydra would set of a job, by path; nothing where nothing is made of it."""
        return hydra_values.of_job(self.cfg, number, overrides) if self.takes_from_hydra else {}

    def _update(self, cfg: DictConfig, values: Tree) -> None:
        _update(cfg, values)
        if self.takes_from_hydra:
            hydra_values.set_output_dir(cfg)

    def with_values(self, settings: Sequence[Override], of_hydra: Tree) -> Tree:
        values = of_hydra | {_path(override): override.value() for override in settings}
        if self.tree is None:
            cfg = copy.deepcopy(self.cfg)
            self._update(cfg, values)
            return plain(cfg)
        tree = dict(self.tree)
        copied = {""}
        for override in settings:
            _set(tree, _path(override).split("."), override.value(), copied)
        if self.derived:
            self._derive(tree, values, copied)
        return tree

    def _derive(self, tree: Tree, values: Tree, copied: set[str]) -> None:
        """Resolve what is made of others anew; in the config itself, since a copy of it would take far longer."""
        self._update(self.cfg, values)
        try:
            for path in self.derived:
                _set(tree, path.split("."), plain_at(self.cfg, path, _at(self.written, path)), copied)
        except OmegaConfBaseException:
            plain(self.cfg)  # tells in a line what cannot be resolved
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


def _seed(tree: Tree, repeat: int) -> Override:
    """Return the override that gives a repeated job its seed.

    Raises:
        UserError: there is no seed to count on from.
    """
    first = tree.get("seed")
    if not is_whole(first):
        raise UserError(f"seed={shown(first)}: expected a whole number, from which repeats count on")
    seed = first + repeat  # type: ignore[operator]  # a whole number by now
    text = f"seed={seed}"
    return Override(OverrideType.CHANGE, "seed", ValueType.ELEMENT, seed, input_line=text)


def _set(tree: Tree, path: list[str], value: Any, copied: set[str]) -> None:
    """Set a leaf, copying each mapping on the way to it once."""
    for depth, part in enumerate(path[:-1], start=1):
        way = ".".join(path[:depth])
        if way not in copied:
            tree[part] = dict(tree[part])
            copied.add(way)
        tree = tree[part]
    tree[path[-1]] = value


def _path(override: Override) -> str:
    return override.key_or_group


@dataclass
class _Planner:
    request: SweepRequest
    loader: JobLoader
    master: DictConfig
    _bases: dict[tuple[str, ...], _Base | UserError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._is_value = [self._sets_values(axis) for axis in self.request.axes]

    def _sets_values(self, axis: Axis) -> bool:
        """Return whether an axis only replaces leaves, whatever else is chosen."""
        return all(self._sets_a_value(override) for point in axis.points for override in point) and not any(
            place < later and overlap(key, other)
            for key, place in zip(axis.keys, axis.places, strict=True)
            for given in self.request.axes
            if given.sets_mappings or not self._chooses(given)
            for other, later in zip(given.keys, given.places, strict=True)
        )

    def _chooses(self, axis: Axis) -> bool:
        """Return whether an axis chooses options of groups, which Hydra does before it sets anything."""
        return all(map(self.loader.is_group, axis.keys))

    def _sets_a_value(self, override: Override) -> bool:
        key = _path(override)
        return not (
            override.is_delete()
            or override.package is not None
            or key.startswith("hydra.")
            or self.loader.is_group(key)
            or not _is_leaf(override.value(), is_added=override.is_add() or override.is_force_add())
        )

    def job(self, combination: Sequence[tuple[Override, ...]], repeat: int, number: int) -> Job | None:
        """Return the job of a combination, or None where the condition drops it.

        Raises:
            UserError: its config is wrong.
        """
        base = self._base(combination)
        settings = [
            override
            for point, is_value, axis in zip(combination, self._is_value, self.request.axes, strict=True)
            if is_value and len(axis.points) > 1
            for override in point
        ]
        given = list(self.request.in_order(combination))
        tree = base.with_values(settings, base.of_hydra(number, given))
        varying = [without_plus(override.input_line or "") for override in self.varying(combination)]
        if self.request.repeats > 1:
            seed = _seed(tree, repeat)
            given = [*(override for override in given if override.key_or_group != "seed"), seed]
            # Other values may be made of the seed.
            tree = base.with_values([*settings, seed], base.of_hydra(number, given))
            varying.append(seed.input_line or "")
        found = mistakes_in(tree, base.declared)
        if not self._is_wanted(tree, found):
            return None
        if found:
            raise UserError(*found)
        overrides = tuple(override.input_line or "" for override in given)
        return Job(overrides, tuple(varying), Config.of(tree))

    def _is_wanted(self, tree: Tree, mistakes: Sequence[str]) -> bool:
        """Return whether the condition holds for a config, in which these mistakes are, or cannot be told for them."""
        try:
            return self.request.where is None or self.request.where.holds(tree)
        except UserError:
            if mistakes:
                return True
            raise

    def varying(self, combination: Sequence[tuple[Override, ...]]) -> Iterator[Override]:
        """Yield the overrides of the axes that have more than one point."""
        for axis, point in zip(self.request.axes, combination, strict=True):
            if len(axis.points) > 1:
                yield from point

    def _base(self, combination: Sequence[tuple[Override, ...]]) -> _Base:
        chosen = [
            axis.points[0] if is_value else point
            for axis, point, is_value in zip(self.request.axes, combination, self._is_value, strict=True)
        ]
        overrides = tuple(override.input_line or "" for override in self.request.in_order(chosen))
        if overrides not in self._bases:
            self._bases[overrides] = self._compose(overrides, chosen)
        base = self._bases[overrides]
        if isinstance(base, UserError):
            raise base
        return base

    def _compose(self, overrides: tuple[str, ...], chosen: Sequence[tuple[Override, ...]]) -> _Base | UserError:
        try:
            cfg, declared = self.loader.load_job(self.master, list(overrides))
            takes_from_hydra = hydra_values.takes_from_hydra(cfg)
            if takes_from_hydra:
                _update(cfg, hydra_values.of_job(cfg, 0, self.request.in_order(chosen)))
                hydra_values.set_output_dir(cfg)
            written = {key: value for key, value in unresolved(cfg).items() if key != "hydra"}
            derived = list(_derived(written))
            tree = _resolved(cfg, may_fail=bool(derived))
        except UserError as error:
            return error
        settable = self._settable()
        is_plain = all(_lies_in_mappings(tree, path) and _lies_in_mappings(written, path) for path in settable)
        is_apart = not any(overlap(path, other) for path in settable for other in derived)
        has_dotted_keys = not all(_lies_in_mappings(written, path) for path in derived)
        is_copied = is_plain and is_apart and not has_dotted_keys
        return _Base(cfg, written, declared, tree if is_copied else None, derived, takes_from_hydra)

    def _settable(self) -> list[str]:
        """Return the paths of what is set in copies."""
        axes = [axis for axis, is_value in zip(self.request.axes, self._is_value, strict=True) if is_value]
        repeated = ["seed"] if self.request.repeats > 1 else []
        return [_path(override) for axis in axes for override in axis.points[0]] + repeated


def _resolved(cfg: DictConfig, may_fail: bool) -> Tree | None:
    """Return the resolved config; None where that fails for the first job, but may not for others."""
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


def _is_leaf(value: Any, is_added: bool) -> bool:
    if isinstance(value, str):
        return "${" not in value and value != "???"
    if isinstance(value, list):
        return not is_added and all(_is_leaf(item, is_added) for item in value)
    return value is None or isinstance(value, bool | int | float)


def _derived(tree: Tree, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the values that are made of others, and not of the environment alone."""
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

"""The jobs of a grid: every combination of the swept values, each with the config that Hydra would compose for it.

Hydra composes one config for each choice of groups and of other overrides that change the structure of the config.
All other overrides set values in copies of it. All jobs are checked before the first one starts; those of a large sweep
are not kept, but made again when they are needed.
"""

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, overload

from hydra.core.override_parser.types import Override, OverrideType, ValueType
from omegaconf import DictConfig

from runner.composition import override_functions
from runner.composition.config_checks import mistakes_in
from runner.messages.errors import UserError
from runner.messages.overrides import without_plus
from runner.messages.printing import print_lines
from runner.messages.ranges import is_whole, shown
from runner.messages.redaction import shown_override
from runner.sweeps.axes import Axis, overlap
from runner.sweeps.composed import Composed, Tree
from runner.sweeps.job import Job, named
from runner.sweeps.labels import labelled, labels_of
from runner.sweeps.language import SweepRequest, sweep_request
from runner.sweeps.mistakes import Mistakes, raise_mistakes
from runner.sweeps.plan import ROUND

LINE_SECONDS = 10
NOT_IN_FILES = ("allow_code", "max_jobs")


class JobLoader(Protocol):
    """Composes the configs of jobs."""

    def load_job(self, master: DictConfig, overrides: list[str]) -> tuple[DictConfig, Tree]:
        """Return the composed config, whose values are not checked yet, and what the files of its groups declare."""

    def is_group(self, key: str) -> bool:
        """Return whether a key chooses an option of a config group."""


def plan_grid(
    arguments: Sequence[str], params: Mapping[str, Any], loader: Any, master: DictConfig
) -> tuple[SweepRequest, Sequence[Job]]:
    """Return the sweep that overrides and `hydra.sweeper.params` ask for, and its jobs in order.

    Raises:
        UserError: with a line for each mistake.
    """
    check_params(params)
    request = sweep_request(arguments, params, override_functions.parser(loader))
    return request, _jobs(request, cast(JobLoader, loader), master)


def check_params(params: Mapping[str, Any]) -> None:
    """Check that `hydra.sweeper.params` has no key that counts on the command line only.

    Raises:
        UserError: it has one.
    """
    for key in NOT_IN_FILES:
        if any(without_plus(name) == key for name in params):
            raise UserError(f"hydra.sweeper.params.{key}: not allowed in a config file, expected on the command line")


def _jobs(request: SweepRequest, loader: JobLoader, master: DictConfig) -> Sequence[Job]:
    """Return the jobs of a sweep, in order.

    Raises:
        UserError: with the mistakes of all jobs, a few in full and the number of the others; or no job is left.
    """
    planner = Planner(request, loader, master)
    progress = _Progress(request.count, is_quiet=master.get("quiet") is True)
    is_kept = request.count <= ROUND
    jobs: list[Job] = []
    numbers = array("Q")
    texts: set[str] = set()
    names: set[str | None] = set()
    mistakes: Mistakes = []
    planned = 0
    for combination in request.combinations():
        for repeat in range(request.repeats):
            planned += 1
            progress.show(planned)
            try:
                job = planner.job(combination, repeat, number=len(numbers))
            except UserError as error:
                name = " ".join(
                    shown_override(without_plus(override.input_line or "")) for override in planner.varying(combination)
                )
                mistakes.append((name, "; ".join(error.lines)))
            else:
                if job is None:
                    continue
                numbers.append(planned - 1)
                if is_kept:
                    jobs.append(job)
                else:
                    texts.update(job.varying)
                    names.update([job.config.name] if len(names) < 2 else [])
    raise_mistakes(mistakes, planned)
    if not numbers:
        assert request.where is not None
        raise UserError(f"where={request.where.formula.text}: no job, it is false for all {planned:,} combinations")
    return labelled(named(jobs)) if is_kept else _MadeAgain(planner, numbers, len(names) > 1, labels_of(texts))


class _Progress:
    """Prints a line now and then while the jobs of a large sweep are planned."""

    def __init__(self, jobs: int, is_quiet: bool) -> None:
        self._jobs = jobs
        self._is_quiet = is_quiet
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, planned: int) -> None:
        if not self._is_quiet and time.monotonic() >= self._next:
            print_lines(f"plan       {planned:,} of {self._jobs:,} jobs")
            self._next = time.monotonic() + LINE_SECONDS


@dataclass
class Planner:
    """Makes the jobs of a sweep, and keeps what Hydra has composed for others.

    Attributes:
        composed: by the overrides that it was composed of; an error where Hydra could not.
    """

    request: SweepRequest
    loader: JobLoader
    master: DictConfig
    composed: dict[tuple[str, ...], Composed | UserError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sets_values = [self._only_sets_values(axis) for axis in self.request.axes]

    def _only_sets_values(self, axis: Axis) -> bool:
        """Return whether an axis only replaces leaves, and nothing given after it changes the same keys."""
        return all(self._sets_a_value(override) for point in axis.points for override in point) and not any(
            position < later and overlap(key, other)
            for key, position in zip(axis.keys, axis.positions, strict=True)
            for given in self.request.axes
            if given.sets_mappings or not self._chooses_groups(given)
            for other, later in zip(given.keys, given.positions, strict=True)
        )

    def _chooses_groups(self, axis: Axis) -> bool:
        """Return whether an axis chooses options of groups, which Hydra does before it sets values."""
        return all(map(self.loader.is_group, axis.keys))

    def _sets_a_value(self, override: Override) -> bool:
        key = override.key_or_group
        return not (
            override.is_delete()
            or override.package is not None
            or key.startswith("hydra.")
            or self.loader.is_group(key)
            or not _is_leaf(override.value(), is_added=override.is_add() or override.is_force_add())
        )

    def job(
        self, combination: Sequence[tuple[Override, ...]], repeat: int, number: int, is_checked: bool = False
    ) -> Job | None:
        """Return the job of a combination; None if `where` is false for it, unless it is known to be a job.

        Raises:
            UserError: its config is wrong.
        """
        composed = self._composed_for(combination)
        settings = [
            override
            for point, sets_values, axis in zip(combination, self._sets_values, self.request.axes, strict=True)
            if sets_values and len(axis.points) > 1
            for override in point
        ]
        given = list(self.request.in_order(combination))
        tree = composed.with_values(settings, composed.hydra_values(number, given))
        varying = [without_plus(override.input_line or "") for override in self.varying(combination)]
        if self.request.repeats > 1:
            seed = _seed(tree, repeat)
            given = [*(override for override in given if override.key_or_group != "seed"), seed]
            # Interpolations may use the seed.
            tree = composed.with_values([*settings, seed], composed.hydra_values(number, given))
            varying.append(seed.input_line or "")
        if not is_checked:
            found = mistakes_in(tree, composed.declared)
            if not self._is_wanted(tree, found):
                return None
            if found:
                raise UserError(*found)
        overrides = tuple(override.input_line or "" for override in given)
        return Job(overrides, tuple(varying), composed.config_of(tree))

    def _is_wanted(self, tree: Tree, mistakes: Sequence[str]) -> bool:
        """Return whether `where` is true for a config, or cannot be evaluated because of these mistakes."""
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

    def _composed_for(self, combination: Sequence[tuple[Override, ...]]) -> Composed:
        chosen = [
            axis.points[0] if sets_values else point
            for axis, point, sets_values in zip(self.request.axes, combination, self._sets_values, strict=True)
        ]
        overrides = tuple(override.input_line or "" for override in self.request.in_order(chosen))
        if overrides not in self.composed:
            self.composed[overrides] = self._compose(overrides, chosen)
        found = self.composed[overrides]
        if isinstance(found, UserError):
            raise found
        return found

    def _compose(self, overrides: tuple[str, ...], chosen: Sequence[tuple[Override, ...]]) -> Composed | UserError:
        try:
            cfg, declared = self.loader.load_job(self.master, list(overrides))
            return Composed.of(cfg, declared, self.request.in_order(chosen), self._settable())
        except UserError as error:
            return error

    def _settable(self) -> list[str]:
        """Return the paths of the values that are set in copies."""
        axes = [axis for axis, sets_values in zip(self.request.axes, self._sets_values, strict=True) if sets_values]
        repeated = ["seed"] if self.request.repeats > 1 else []
        return [override.key_or_group for axis in axes for override in axis.points[0]] + repeated


@dataclass(frozen=True)
class _MadeAgain(Sequence[Job]):
    """The jobs of a large sweep, which are made whenever they are needed.

    Attributes:
        numbers: of those that `where` has left, among all combinations and repeats.
        are_named: whether their configs have different names.
        labels: by override.
    """

    planner: Planner
    numbers: "array[int]"
    are_named: bool
    labels: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [self._job(place) for place in range(*index.indices(len(self.numbers)))]
        return self._job(range(len(self.numbers))[index])

    def _job(self, place: int) -> Job:
        request = self.planner.request
        number, repeat = divmod(self.numbers[place], request.repeats)
        job = self.planner.job(request.combination(number), repeat, number=place, is_checked=True)
        assert job is not None
        return replace(job, is_named=self.are_named, labels=tuple(self.labels[text] for text in job.varying))


def _seed(tree: Tree, repeat: int) -> Override:
    """Return the override that gives a repeated job its seed.

    Raises:
        UserError: the seed of the config is not a whole number.
    """
    first = tree.get("seed")
    if not is_whole(first):
        raise UserError(f"seed={shown(first)}: expected a whole number, the seed of the first of the repeats")
    seed = first + repeat  # type: ignore[operator]  # a whole number by now
    text = f"seed={seed}"
    return Override(OverrideType.CHANGE, "seed", ValueType.ELEMENT, seed, input_line=text)


def _is_leaf(value: Any, is_added: bool) -> bool:
    if isinstance(value, str):
        return "${" not in value and value != "???"
    if isinstance(value, list):
        return not is_added and all(_is_leaf(item, is_added) for item in value)
    return value is None or isinstance(value, bool | int | float)

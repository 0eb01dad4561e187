"""The study of a search: its storage, its sampler, and what an earlier process left of it."""

import contextlib
import importlib
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from runner.messages.errors import UserError, one_line
from runner.messages.redaction import shown_text
from runner.search.settings import SearchSettings
from runner.search.turns import FileLock, Turns, turns_by_database
from runner.tracking.processes import PID, is_alive_here, is_here, process_tags

JOURNALS = Path("outputs/search")
OWNER = "process"
RUN = "sweep"
BATCH = "batch"
SEEDS = 2**32
GRID = "grid"
# A grid of a continuous range has so many values.
GRID_VALUES = 10


@dataclass(frozen=True)
class Study:
    """A study of Optuna, which this process asks and tells.

    Attributes:
        study: the study.
        settings: of the search.
        distributions: what is chosen, by key.
        place: where it is stored, as shown to users.
        alone: keeps other processes from asking for trials meanwhile.
    """

    study: optuna.Study
    settings: SearchSettings
    distributions: Mapping[str, BaseDistribution]
    place: str
    alone: Turns

    def ask(self, most: int, run: str | None = None, batch: int | None = None) -> list[optuna.Trial]:
        """Return new trials, as many as are missing but at most so many.

        The sampler depends on the seed and the number of the trial alone, so that a search that goes on chooses what it
        would have chosen without the interruption.

        Args:
            most: how many.
            run: the runner's id of the parent run, where it is known.
            batch: the number of the first trial of the batch that they belong to; None for a new batch.
        """
        with self.alone():
            first = self.count
            batch = first if batch is None else batch
            return [self._ask(number, run, batch) for number in range(first, first + min(most, self.missing))]

    def _ask(self, number: int, run: str | None, batch: int) -> optuna.Trial:
        self.study.sampler = sampler_of(self.settings, number)
        trial = self.study.ask(dict(self.distributions))
        self.own(trial, run, batch)
        return trial

    def own(self, trial: optuna.Trial, run: str | None, batch: int | None = None) -> None:
        """Note that this process runs a trial, under which parent run, and of which batch it is where that is new."""
        batch = batch_of(trial) if batch is None else batch
        trial.set_user_attr(OWNER, process_tags() | {BATCH: batch} | ({} if run is None else {RUN: run}))

    def leave(self, trial: optuna.Trial) -> None:
        """Note that no process runs a trial, unless it has ended."""
        found = trial.user_attrs.get(OWNER, {})
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(OWNER, {key: found[key] for key in (BATCH, RUN) if key in found})

    def run_of(self, trial: FrozenTrial) -> str | None:
        """Return the runner's id of the parent run that has a trial."""
        found: str | None = trial.user_attrs.get(OWNER, {}).get(RUN)
        return found

    def take_over(self) -> list[optuna.Trial]:
        """Return the trials that a process which is gone has not told, in order; they are this process's now."""
        with self.alone():
            running = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
            found: dict[int, optuna.Trial] = {}
            for left in filter(_is_left, running):
                # One whose owner is not noted was asked for last, in the batch of the one before it.
                before = None if OWNER in left.user_attrs else found.get(left.number - 1)
                found[left.number] = self._take_over(left, batch_of(before or left))
            return [*found.values()]

    def _take_over(self, left: FrozenTrial, batch: int) -> optuna.Trial:
        self.study.sampler = sampler_of(self.settings, left.number)
        trial = optuna.Trial(self.study, left._trial_id)
        for key, distribution in self.distributions.items():  # as `study.ask` does; it may have ended in between
            trial._suggest(key, distribution)
        self.own(trial, None, batch)
        return trial

    @property
    def begun_batch(self) -> tuple[int, int]:
        """The number of the first trial of the last batch, and how many trials that has; 0 if some of them are told."""
        trials = [one for one in self.study.get_trials(deepcopy=False) if OWNER in one.user_attrs]
        last = max(map(batch_of, trials), default=0)
        states = [one.state for one in trials if batch_of(one) == last]
        return last, len(states) if all(state == TrialState.RUNNING for state in states) else 0

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that have been told a value."""
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def values(self, metric: int) -> Iterator[float]:
        """Yield the values of a metric, given by its place, that trials were told or had at rungs."""
        for trial in self.study.get_trials(deepcopy=False):
            yield from trial.intermediate_values.values()
            if trial.state == TrialState.COMPLETE:
                yield trial.values[metric]

    @property
    def count(self) -> int:
        """How many trials have begun."""
        return sum(trial.state != TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))

    @property
    def missing(self) -> int:
        """How many trials are still to begin: of a grid, at most as many as it has points."""
        missing = self.settings.n_trials - self.count
        if self.settings.sampler["name"] != GRID:
            return missing
        return min(missing, len(self.study.get_trials(deepcopy=False, states=[TrialState.WAITING])))


def batch_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the number of the first trial of a trial's batch; its own number where that is not known."""
    return int(trial.user_attrs.get(OWNER, {}).get(BATCH, trial.number))


def open_study(
    settings: SearchSettings, distributions: Mapping[str, BaseDistribution], name: str, uri: str | None, resumes: bool
) -> Study:
    """Return a new study, or one to go on with.

    Args:
        settings: of the search.
        distributions: what is chosen, by key.
        name: of the study, where the settings give none; a new one gets a number behind it.
        uri: of MLflow's store, which cannot hold the study too.
        resumes: whether to go on with the latest study of that name.

    Raises:
        UserError: the storage cannot be used, or there is such a study, or none to go on with, or another.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    place = _place_of(settings.storage, uri, JOURNALS / f"{settings.study_name or name}.log")
    try:
        with place.turns():  # several processes may make the same tables, or the same study
            storage = _storage(settings.storage, place)
            study = _opened(storage, settings, distributions, name, resumes)
    except OSError as error:
        raise UserError(f"hydra.sweeper.storage={place.shown}: {one_line(error)}") from None
    return Study(study, settings, distributions, f"{study.study_name} in {place.shown}", place.turns)


def _opened(
    storage: BaseStorage,
    settings: SearchSettings,
    distributions: Mapping[str, BaseDistribution],
    name: str,
    resumes: bool,
) -> optuna.Study:
    chosen, exists = _name(settings.study_name, name, storage, resumes)
    directions: list[Any] = list(settings.directions)
    study = optuna.create_study(storage=storage, study_name=chosen, directions=directions, load_if_exists=True)
    if exists:
        _check_same(study, settings, distributions)
        return study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(settings.metrics))  # as Optuna's dashboard shows them
    if settings.sampler["name"] == GRID:
        for point in itertools.islice(_grid(distributions), settings.n_trials):
            study.enqueue_trial(point)
    return study


def _name(given: str | None, usual: str, storage: BaseStorage, resumes: bool) -> tuple[str, bool]:
    names = set(optuna.get_all_study_names(storage))
    if given is not None:
        if given in names and not resumes:
            raise UserError(
                f"hydra.sweeper.study_name={given}: there is such a study, expected resume=true to go on with it"
            )
        return given, given in names
    count = sum(name.startswith(f"{usual}-") for name in names)
    latest = f"{usual}-{count}"
    return (latest, True) if resumes and latest in names else (f"{usual}-{count + 1}", False)


def _check_same(study: optuna.Study, settings: SearchSettings, distributions: Mapping[str, BaseDistribution]) -> None:
    directions = [direction.name.lower() for direction in study.directions]
    if directions != list(settings.directions):
        raise UserError(f"hydra.sweeper.direction={list(settings.directions)}: the study has {directions}")
    for trial in study.get_trials(deepcopy=False):
        chosen, wanted = set(trial.distributions), set(distributions)
        # A process that was killed while it asked for a trial has left one with some of the keys.
        if chosen != wanted if trial.state.is_finished() and chosen else not chosen <= wanted:
            raise UserError(
                f"hydra.sweeper.study_name={study.study_name}: the study chooses {', '.join(trial.distributions)}, "
                f"this search {', '.join(distributions)}"
            )


def _is_file(given: str) -> bool:
    return "://" not in given


@dataclass(frozen=True)
class _Place:
    """Where a study is stored.

    Attributes:
        shown: to users.
        turns: of the processes that use it.
        lock: of a journal; None for a database.
    """

    shown: str
    turns: Turns
    lock: FileLock | None = None


def _place_of(given: str | None, uri: str | None, usual: Path) -> _Place:
    """Return where a study is stored.

    Raises:
        UserError: it cannot be there.
    """
    if given is None or _is_file(given):
        path = usual if given is None else Path(given)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"hydra.sweeper.storage={path}: {one_line(error)}") from None
        lock = FileLock(path)
        return _Place(str(path), lock.turn, lock)
    shown = shown_text(given)
    if given == uri or _is_of_mlflow(given, shown):
        raise UserError(
            f"hydra.sweeper.storage={shown}: is MLflow's database, expected another: both have a table alembic_version"
        )
    return _Place(shown, turns_by_database(given))


def _storage(given: str | None, place: _Place) -> BaseStorage:
    if place.lock is not None:
        return JournalStorage(JournalFileBackend(place.shown, place.lock))
    try:
        return optuna.storages.get_storage(given)
    except Exception as error:  # of the database's driver
        raise UserError(f"hydra.sweeper.storage={place.shown}: {one_line(error)}") from None


def _is_of_mlflow(url: str, shown: str) -> bool:
    """Return whether a database has MLflow's tables; a file that does not exist is not made."""
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
            return False
        engine = sqlalchemy.create_engine(url)
        try:
            return bool(sqlalchemy.inspect(engine).has_table("experiments"))
        finally:
            engine.dispose()
    except Exception as error:  # of the database's driver
        raise UserError(f"hydra.sweeper.storage={shown}: {one_line(error)}") from None


def sampler_of(settings: SearchSettings, number: int) -> BaseSampler:
    """Return the sampler for the trial of that number.

    Raises:
        UserError: it does not take its arguments, or its package is not installed.
    """
    arguments = dict(settings.sampler)
    name = str(arguments.pop("name"))
    seed = (settings.seed * 1_000_003 + number) % SEEDS
    try:
        if name == "cmaes":  # whose package Optuna imports when it samples
            importlib.import_module("cmaes")
        if name == "qmc":  # whose place in its sequence is the number of the trial
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return optuna.samplers.QMCSampler(seed=settings.seed, warn_independent_sampling=False, **arguments)
        make: Any = {
            "random": optuna.samplers.RandomSampler,
            GRID: optuna.samplers.RandomSampler,  # its trials wait in the study
            "tpe": optuna.samplers.TPESampler,
            "cmaes": optuna.samplers.CmaEsSampler,
            "gp": optuna.samplers.GPSampler,
        }[name]
        sampler: BaseSampler = make(seed=seed, **arguments)
    except ImportError as error:
        install = "pip install 'gradient-descent-runner[search]'"
        raise UserError(f"hydra/sweeper/sampler={name}: {error.name} is not installed; {install}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.sampler={settings.sampler}: {one_line(error)}") from None
    return sampler


def _grid(distributions: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    """Yield every combination of values, of GRID_VALUES values of a continuous range."""
    for values in itertools.product(*map(_values, distributions.values())):
        yield dict(zip(distributions, values, strict=True))


def _values(distribution: BaseDistribution) -> Iterator[Any]:
    if isinstance(distribution, CategoricalDistribution):
        yield from distribution.choices
    elif isinstance(distribution, IntDistribution) and not distribution.log:
        yield from range(distribution.low, distribution.high + 1, distribution.step)
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = float(distribution.low), float(distribution.high)
        for place in range(GRID_VALUES):
            share = place / (GRID_VALUES - 1)
            value = low * (high / low) ** share if distribution.log else low + (high - low) * share
            yield round(value) if isinstance(distribution, IntDistribution) else min(value, high)


def _is_left(trial: FrozenTrial) -> bool:
    """Return whether a trial is nobody's, seen in a turn: its process is gone, while it asked for it or later.

    The process of a trial of another place may be at work.
    """
    tags = trial.user_attrs.get(OWNER, {})
    return PID not in tags or (is_here(tags) and not is_alive_here(tags))

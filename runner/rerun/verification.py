"""Comparing recorded runs with their reruns: the numbers, and what may explain a difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.config.stop_rules import StopReason
from runner.messages.errors import UserError
from runner.reading.collection import Runs
from runner.reading.record import RunRecord
from runner.reading.rows import by_run
from runner.recorder.errors import StoreError
from runner.recorder.reading import job_of
from runner.recorder.reading_back import RecordedRun, read_jobs
from runner.rerun.circumstances import circumstances
from runner.rerun.composing import Composed, compose_again
from runner.rerun.numbers import Array, Comparison, Numbers, compare
from runner.rerun.running import KEPT_IN_MEMORY, Rerun, members_of, run_again
from runner.rerun.weights import RecordedWeights
from runner.sweeps.mistakes import Mistakes, raise_mistakes
from runner.tracking.inheritance import SUMMARY

UNFINISHED = ("KILLED", "RUNNING")


@dataclass(frozen=True)
class Verdict:
    """A recorded run, compared with its rerun.

    Attributes:
        comparison: of the numbers.
        changes: what overrides have changed in the config, by dotted key: the recorded and the new value.
        circumstances: what else differs.
        failure: why the rerun failed, where it made no number.
        is_partial: whether only the steps are compared, since a signal or the clock ended the recorded run.
    """

    run: RunRecord
    comparison: Comparison
    changes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    circumstances: Sequence[str] = ()
    failure: str | None = None
    is_partial: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether all numbers are equal to the bit."""
        return self.comparison.is_equal and self.failure is None


@dataclass(frozen=True)
class Recipe:
    """A recorded run, and the config composed from its record."""

    run: RunRecord
    recorded: RecordedRun
    composed: Composed

    @property
    def is_partial(self) -> bool:
        """Whether a signal or the clock ended the recorded run, so that its results are those of no whole run."""
        if self.run.outcome in UNFINISHED:
            return True
        stop = self.composed.config.stop
        return stop.seconds is not None and self.run.sentence.endswith(StopReason.SECONDS.sentence(stop))

    @property
    def _has_results_only(self) -> bool:
        return self.run.sweep is not None and self.recorded.tree["tracking"].get("children") == SUMMARY

    def verdict(self, numbers: Numbers, again: Rerun) -> Verdict:
        """Compare recorded numbers with those of a rerun."""
        of_common_steps = self.is_partial or "log_every" in self.composed.changes
        # A job of which only results are recorded has no other numbers to be compared.
        made = {key: one for key, one in again.numbers.items() if key in numbers or not self._has_results_only}
        comparison = compare(numbers, made, of_common_steps, with_results=not self.is_partial)
        failure = again.failure if not again.numbers else None
        config = self.composed.config
        others = circumstances(self.run.tags, self.recorded, again.tags, config) if again.tags else []
        return Verdict(self.run, comparison, self.composed.changes, others, failure, self.is_partial)


def records_of(found: Runs, client: MlflowClient) -> list[RecordedRun]:
    """Return what runs were composed of, each file of jobs read once.

    Raises:
        UserError: that is not recorded of some run.
    """
    jobs: dict[str, dict[str, RecordedRun]] = {}
    records, mistakes = [], Mistakes()
    for run in found:
        if run.sweep is not None and run.sweep not in jobs:
            jobs[run.sweep] = _jobs_of(client, run.sweep)
        try:
            known = jobs.get(run.sweep or "", {}).get(job_of(run.tags))
            records.append(run.recorded if known is None else known)
        except UserError as error:
            mistakes.append(("", "; ".join(error.lines)))
    raise_mistakes(mistakes, len(found))
    return records


def _jobs_of(client: MlflowClient, sweep: str) -> dict[str, RecordedRun]:
    try:
        return read_jobs(client, sweep)
    except StoreError as error:
        raise UserError(f"{error}") from None
    except (MlflowException, OSError):  # deleted, or its artifacts are: jobs may have records of their own
        return {}


def recipes(found: Runs, client: MlflowClient, overrides: Sequence[str]) -> list[Recipe]:
    """Return runs with the configs composed from their records, which are recorded nowhere.

    Raises:
        UserError: some cannot be composed.
    """
    composed, mistakes = [], Mistakes()
    for run, recorded in zip(found, records_of(found, client), strict=True):
        try:
            config = compose_again(recorded, overrides, KEPT_IN_MEMORY, run.sweep is not None)
            composed.append(Recipe(run, recorded, config))
        except UserError as error:
            mistakes.append((run.name if len(found) > 1 else "", "; ".join(error.lines)))
    raise_mistakes(mistakes, len(found))
    return composed


def verify(found: Runs, client: MlflowClient, overrides: Sequence[str] = ()) -> list[Verdict]:
    """Run recorded runs again, together where they can share a batch, and compare every number; nothing is recorded.

    Raises:
        UserError: some run cannot be composed, or does not fit this machine.
    """
    composed = recipes(found, client, overrides)
    kept = RecordedWeights(client, found)
    weights = {index: kept.of(one.run, one.recorded.tree.get("keep_weights")) for index, one in enumerate(composed)}
    configs = [
        (one.run.name, replace(one.composed.config, keep_weights="all" if weights[index] else "none"))
        for index, one in enumerate(composed)
    ]
    verdicts: dict[int, Verdict] = {}
    for again in run_again(members_of(configs)):
        numbers = numbers_of(found, list(again))
        for index, rerun in again.items():
            verdicts[index] = composed[index].verdict({**numbers[index], **weights[index]}, rerun)
    return [verdicts[index] for index in range(len(composed))]


def numbers_of(found: Runs, indices: Sequence[int]) -> dict[int, dict[str, tuple[Array, Array]]]:
    """Return the recorded numbers of some runs."""
    rows = [found[index].row for index in indices]
    keys = list(dict.fromkeys(key for row in rows for key in row.metrics))
    histories = by_run(found.reader.histories(rows, keys))
    return {index: _numbers(found[index], histories.get(found[index].id, {})) for index in indices}


def _numbers(run: RunRecord, histories: Mapping[str, Any]) -> dict[str, tuple[Array, Array]]:
    """Return the numbers of a run; a last value that is not that of the history is one more."""
    numbers = {key: (one.steps, one.values) for key, one in histories.items()}
    for key, last in run.metrics.items():
        steps, values = numbers.get(key, (np.empty(0, dtype=np.int64), np.empty(0)))
        if len(values) == 0 or not np.array_equal(values[-1:], [last], equal_nan=True):
            step = int(steps[-1]) if len(steps) else int(run.metrics.get("steps_done", 0))
            numbers[key] = np.append(steps, step), np.append(values, last)
    return numbers

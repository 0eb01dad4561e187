"""Selecting runs of the record: by id, by sweep, by experiment, by MLflow's filters."""

import os
from collections.abc import Sequence

from mlflow.exceptions import MlflowException

from runner.config.folders import check_working_directory
from runner.config.schema import URI
from runner.config.uris import DEFAULT_URI
from runner.messages.errors import UserError, nearest
from runner.messages.redaction import shown_text
from runner.reading.collection import Runs
from runner.reading.database import DatabaseReader
from runner.reading.reader import Reader
from runner.reading.record import RunRecord
from runner.reading.rows import Row
from runner.recorder.bulk import is_known
from runner.recorder.errors import StoreError
from runner.recorder.finding import existing_store, find_runs
from runner.recorder.opening import describe_error
from runner.recorder.store import Store
from runner.tracking.inheritance import Inherited

KIND = "runner.kind"
SWEEP = "sweep"


def runs(
    *ids: str,
    parent: str | None = None,
    experiment: str | None = None,
    filter: str | None = None,  # noqa: A002  # what it is called in MLflow
    uri: str | None = None,
) -> Runs:
    """Return recorded runs; of a sweep, its jobs.

    Without arguments, all runs of the store are returned. Runs in MLflow's trash are left out.

    Args:
        ids: of runs or sweeps, or their first characters, at least four; a sweep stands for its jobs.
        parent: the id of a sweep, or its first characters.
        experiment: only runs of the experiment with this name.
        filter: only runs that match this filter of MLflow's: "metrics.loss < 1 and params.seed = '0'".
        uri: the store; by default MLFLOW_TRACKING_URI or outputs/mlflow.db.

    Raises:
        UserError: there is no such run, sweep, experiment or store, or the filter cannot be read.
    """
    check_working_directory()
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    if not URI.accepts(uri):
        raise UserError(f"uri={shown_text(uri)}: expected {URI.allowed}")
    try:
        store = existing_store(uri, setting="uri=")
        reader = (DatabaseReader if is_known(store.client) else Reader)(store, uri)
        return _selected(store, reader, [*ids, *([parent] if parent else [])], experiment, filter)
    except (StoreError, MlflowException) as error:
        text = str(error) if isinstance(error, StoreError) else describe_error(error, uri)
        raise UserError(text) from None


def _selected(store: Store, reader: Reader, ids: Sequence[str], experiment: str | None, condition: str | None) -> Runs:
    names = reader.experiments()
    if experiment is not None and experiment not in names.values():
        raise UserError(f"experiment={experiment}: no such experiment{nearest(experiment, names.values())}")
    wanted = [one for one, name in names.items() if experiment in (None, name)]
    rows = _of_ids(store, reader, ids) if ids else []
    if ids and experiment is not None:
        rows = [row for row in rows if row.experiment in wanted]
    if condition is not None:
        matching = reader.matching(wanted, condition)
        known = {row.id for row in matching}
        rows = [row for row in rows if row.id in known] if ids else matching
    elif not ids:
        rows = reader.of_experiments(wanted)
    return _collected(reader, rows)


def _of_ids(store: Store, reader: Reader, ids: Sequence[str]) -> list[Row]:
    found = find_runs(store, ids)
    if deleted := [run.info.run_id for run in found if run.info.lifecycle_stage != "active"]:
        raise UserError(*(f"{run_id}: is in MLflow's trash, expected a run that is not" for run_id in deleted))
    rows: dict[str, Row] = {}
    for run in map(Row.of, found):
        jobs = reader.children(run.experiment, run.id)
        rows |= {row.id: row for row in (jobs or [run])}
    return list(rows.values())


def _collected(reader: Reader, rows: Sequence[Row]) -> Runs:
    """Return the runs without the parents of sweeps, which are kept beside them."""
    items = tuple(RunRecord(row, reader) for row in rows if row.tags.get(KIND) != SWEEP)
    parents = {run.sweep: None for run in items if run.sweep is not None}
    sweeps = {row.id: row for row in rows if row.tags.get(KIND) == SWEEP}
    sweeps |= {row.id: row for row in reader.of_ids([one for one in parents if one not in sweeps])}
    inherited = {one: Inherited.of(row.params, row.tags) for one, row in sweeps.items()}
    for run in items:
        if run.sweep is not None and (shared := inherited.get(run.sweep)) is not None:
            shared.fill(run.row.params, run.row.tags)
    return Runs(items, tuple(RunRecord(row, reader) for row in sweeps.values()), reader)

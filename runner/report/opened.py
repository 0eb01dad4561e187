"""What `python -m runner.ui` opens: a sweep, best job first, a run, or the sweeps and single runs of an experiment."""

from collections import defaultdict
from collections.abc import Sequence

from runner.messages.errors import UserError, nearest
from runner.messages.redaction import shown_text
from runner.recorder.experiment_tags import write_experiment_tags
from runner.recorder.finding import ID, Experiment, Run, find_runs
from runner.recorder.reading import LARGEST, PARENT_TAG
from runner.recorder.store import Store
from runner.report import views
from runner.tracking.journal import now_ms

# The jobs by which a view is made for a sweep that has none.
MOST_JOBS = 1000
RESULTS = ("final/loss", "final/loss_error", "final/distance", "best/step", "steps_done")
EXPERIMENTS = "#/experiments"


def address_of(store: Store, text: str | None) -> str:
    """Return the address to open, without the host; the views that it shows are saved before.

    Args:
        store: the record.
        text: the id of a run or a sweep, or its first characters; the id or name of an experiment; None for the latest
            sweep, or without one the latest run.

    Raises:
        UserError: there is no such run, sweep or experiment, or it is in MLflow's trash.
    """
    if text is None:
        latest = _latest(store)
        return EXPERIMENTS if latest is None else _address_of_run(store, latest)
    experiments = {one.experiment_id: one for one in store.client.search_experiments()}
    named = experiments | {one.name: one for one in experiments.values()}
    if text in named:
        return _address_of_list(store, named[text])
    if not ID.fullmatch(text):
        names = [one.name for one in experiments.values()]
        raise UserError(
            f"{shown_text(text)}: no such run or experiment, expected the id of a run or a sweep, its first "
            f"characters, or an experiment{nearest(text, names)}"
        )
    (run,) = find_runs(store, [text])
    if run.info.lifecycle_stage != "active":
        raise UserError(f"{text}: is in MLflow's trash, expected a run that is not")
    return _address_of_run(store, run)


def _latest(store: Store) -> Run | None:
    """Return the latest sweep; without one the latest run, if there is any."""
    experiments = [one.experiment_id for one in store.client.search_experiments()]
    for condition in ("tags.`runner.kind` = 'sweep'", ""):
        found = store.client.search_runs(experiments, condition, max_results=1, order_by=["attributes.start_time DESC"])
        if found:
            run: Run = found[0]
            return run
    return None


def _address_of_list(store: Store, experiment: Experiment) -> str:
    identifier: str = experiment.experiment_id
    write_experiment_tags(store.client, identifier, {f"{views.TAG}{views.LIST}": views.view_of_list(now_ms())})
    return views.address_of_view(identifier, views.LIST)


def _address_of_run(store: Store, run: Run) -> str:
    """Return the address of a run's own page, or of the view of a sweep's jobs."""
    experiment, run_id = run.info.experiment_id, run.info.run_id
    key = views.key_of_sweep(run_id)
    tag = f"{views.TAG}{key}"
    if tag not in store.client.get_experiment(experiment).tags:
        condition = f"tags.`{PARENT_TAG}` = '{run_id}'"
        jobs = store.client.search_runs([experiment], condition, max_results=MOST_JOBS)
        if not jobs:
            return views.address_of_run(experiment, run_id)
        new = {tag: _view_of(run, jobs), f"{views.TAG}{views.LIST}": views.view_of_list(now_ms())}
        write_experiment_tags(store.client, experiment, new)
        if tag not in store.client.get_experiment(experiment).tags:  # the store refused it
            return views.address_of_run(experiment, run_id)
    return views.address_of_view(experiment, key)


def _view_of(sweep: Run, jobs: Sequence[Run]) -> str:
    """Return the view of a sweep from its record, as for one that was killed, or that another program logged."""
    values: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        for key, text in job.data.params.items():
            values[key].add(text)
    varied = [key for key, found in values.items() if len(found) > 1]
    given = [key for key in sweep.data.params if key in varied]
    metrics = {key for job in jobs for key in job.data.metrics}
    losses = [value for job in jobs if abs(value := job.data.metrics.get("final/loss", LARGEST)) < LARGEST]
    view = views.SweepView(
        name=sweep.info.run_name or sweep.info.run_id,
        parent=sweep.info.run_id,
        varied=list(dict.fromkeys([*given, *varied])),
        results=[key for key in RESULTS if key in metrics] or sorted(metrics)[: len(RESULTS)],
        has_ranks="rank" in metrics,
        is_upward=(sweep.data.params | jobs[0].data.params).get("optimizer.maximize") == "true",
        is_positive=min(losses, default=1) > 0,
        at_ms=now_ms(),
    )
    return views.view_of_sweep(view)

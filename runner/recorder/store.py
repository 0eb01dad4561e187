"""A store of MLflow's to which journal entries are applied."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.recorder.artifacts import local_folder, run_folder, write_artifact
from runner.recorder.errors import ConcurrentStartError, RecordLostError, StoreError, TakenOverError
from runner.recorder.experiment_tags import write_experiment_tags
from runner.recorder.names import accepted
from runner.recorder.ownership import OwnedError, begin_alone, is_anothers, is_superseded
from runner.recorder.reading import ID_TAG, PARENT_TAG, children, ledger_of, pages
from runner.recorder.settling import leave_to, settle
from runner.recorder.verification import DatabaseFile, Last, lost_run
from runner.tracking.journal import (
    EXPERIMENT,
    GOES_ON,
    REFERENCE,
    Artifact,
    Begin,
    End,
    Entry,
    Known,
    Metrics,
    Settle,
    Shown,
    now_ms,
)
from runner.tracking.processes import HEARTBEAT, REAPED, RESUMES

OUTCOME = "runner.outcome"
# Without this tag the UI shows the experiment as one about language models.
SHOWN_AS_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
METRICS_A_REQUEST = 1000
PARAMS_A_REQUEST = 100


@dataclass(frozen=True)
class Created:
    """Our id of a run, and MLflow's ids of it."""

    run: str
    run_id: str
    experiment_id: str


class Store:
    """Applies journal entries with MLflow's public client; applying an entry twice changes nothing."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        self._may_have_begun = may_have_begun
        self._waiting: dict[str, list[Metric]] = {}
        self._client = self.client = client
        self._artifacts = artifacts
        self._experiments: dict[str, str] = {}
        self._roots: dict[str, Path | None] = {}
        self._runs: dict[str, str] = {}
        self._unfinished: dict[str, Begin] = {}
        self._with_heartbeat: set[str] = set()
        self._taken_over: set[str] = set()
        # What was written, by MLflow's run ids, to be verified at the end; and the runs without a parent.
        self._written: dict[str, Last] = {}
        self._leading: set[str] = set()
        # The jobs that this journal began, by the sweep that another one began; and what this one ended as KILLED.
        self._jobs_of: dict[str, list[str]] = {}
        self._killed: set[str] = set()
        self._kept: list[Path] = []
        self.warning: str | None = None
        # The file of a SQLite database.
        self.file: DatabaseFile | None = None
        # Called between transactions while many rows are written.
        self.after_transaction: Callable[[], None] = lambda: None

    def _end_tags(self, end: End) -> dict[str, str]:
        return end.tags | {key: self._runs.get(run, run) for key, run in end.references.items()}

    def apply(self, entry: Entry) -> Created | None:
        """Write one entry; return the run that it created, if any."""
        entry = accepted(entry)
        match entry:
            case Known():
                self._runs[entry.run] = entry.run_id
                self._jobs_of |= {entry.run_id: []} if entry.has_jobs else {}
                return Created(entry.run, entry.run_id, entry.experiment_id)
            case Begin():
                created = self._begin(entry)
                self._written.setdefault(created.run_id, Last())
                return created
            case Metrics():
                self._runs |= {run: run for run in entry.runs} if entry.are_recorded else {}
                self._metrics(entry)
                for run in entry.runs if entry.values else ():
                    self._note(run, max(entry.steps))
            case Artifact():
                self._artifact(entry)
            case Shown() if not self._is_taken_over(entry.run):
                self._show(entry)
            case End() if not self._is_taken_over(entry.run):
                self._end(entry)
                self._note(entry.run, entry.step if entry.results else -1, has_ended=entry.status != GOES_ON)
                if entry.status == "KILLED":
                    self._killed.add(self._runs[entry.run])
            case Settle() if not self._is_taken_over(entry.run):
                self.flush()
                settle(self._client, self._runs[entry.run], entry.is_complete, self._killed)
        return None

    def _is_taken_over(self, run: str) -> bool:
        if run not in self._taken_over and self._is_anothers(run):
            self._give_up(run)
        return run in self._taken_over

    def _note(self, run: str, step: int, has_ended: bool = False) -> None:
        run_id = self._runs[run]
        self._written[run_id] = Last(max(self._written.get(run_id, Last()).step, step), has_ended)

    def check(self) -> None:
        """Check that the store is still the one that was opened.

        Raises:
            RecordLostError: its database was removed or replaced.
        """
        if self.file is not None:
            self.file.check()

    def verify(self) -> None:
        """Check that all that was written since the last call can be read back.

        Raises:
            RecordLostError: something is missing.
        """
        self.check()
        self._verify_runs(self._written)
        if missing := [path for path in self._kept if not path.is_file()]:
            raise RecordLostError(f"{missing[0]}: was removed while runs were recorded")
        self._written, self._kept = {}, []

    def _verify_runs(self, written: Mapping[str, Last]) -> None:
        for run_id in written.keys() & self._leading:
            try:
                status = self._client.get_run(run_id).info.status
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise lost_run(run_id) from None
            if written[run_id].has_ended and status == "RUNNING":
                raise lost_run(run_id)

    def ledger(
        self, sweep: str, resume: str | bool, experiment: str, claim: dict[str, Any], may_join: bool = False
    ) -> dict[str, Any] | None:
        """Return the parent and the finished jobs of a sweep, as `Ledger.of` reads them; None if there is none.

        The claimant owns the sweep from then on.

        Args:
            sweep: the fingerprint of the sweep.
            resume: true for the last such sweep, or the id of the parent run.
            experiment: the name of the experiment to look in.
            claim: the process that wants to resume it.
            may_join: whether sweeps that other processes are running are passed over.

        Raises:
            StoreError: there is no such parent run, or its sweep is still running.
        """
        return ledger_of(self._client, sweep, resume, experiment, claim, may_join)

    def flush(self) -> None:
        """Write the buffered metrics."""
        for run in list(self._waiting):
            self._log_metrics(run, self._waiting[run])
            self._waiting.pop(run)

    def close(self) -> None:
        """Close the store, once all is written."""

    def retry(self) -> None:
        """Note that the last entry may have been written although it raised an error."""
        self._may_have_begun = True

    def heartbeat(self) -> None:
        """Set the heartbeat of the running runs; the jobs of a sweep share their parent's.

        Raises:
            TakenOverError: another process has taken over a sweep.
        """
        for run in list(self._with_heartbeat):
            if self._is_anothers(run):
                self._give_up(run)
                raise TakenOverError(f"sweep {self._runs[run]} was taken over by another process, which continues it")
            self._set_heartbeat(self._runs[run])
        self._remove_reaped_marks()

    def _remove_reaped_marks(self) -> None:
        """Remove the marks of runs of this journal that other processes have marked as killed."""
        own = {run_id: run for run, run_id in self._runs.items()}
        experiments = list(self._experiments.values())
        marked = self._client.search_runs(experiments, f"tags.`{REAPED}` != ''") if experiments else []
        for run_id in (run.info.run_id for run in marked if run.info.run_id in own):
            self._client.delete_tag(run_id, REAPED)
            if own[run_id] in self._unfinished:
                self._client.update_run(run_id, status="RUNNING")

    def _set_heartbeat(self, run_id: str) -> None:
        self._client.set_tag(run_id, HEARTBEAT, str(now_ms()))

    def end_unfinished(self) -> None:
        """Mark the runs without an end in the journal as KILLED: their runner has ended."""
        for run in list(self._unfinished):
            if self._may_have_begun and self._is_anothers(run):
                self._give_up(run)
                continue
            self.apply(
                End(
                    run,
                    "KILLED",
                    now_ms(),
                    tags={OUTCOME: "killed: the runner's process is gone"},
                )
            )
        self.flush()
        self._remove_reaped_marks()
        for sweep, jobs in self._jobs_of.items():
            leave_to(self._client, sweep, jobs)

    def _is_anothers(self, run: str) -> bool:
        """Return whether another process has resumed a sweep that this journal began."""
        begin = self._unfinished.get(run)
        if begin is None or run not in self._with_heartbeat or begin.tags.get("runner.kind") != "sweep":
            return False
        self.flush()
        return is_anothers(self._client.get_run(self._runs[run]), begin.tags)

    def _give_up(self, run: str) -> None:
        """Write nothing more of a sweep that another process owns."""
        self._forget(run)
        self._taken_over.add(run)

    def _begin(self, begin: Begin) -> Created:
        experiment = self._experiment(begin.experiment)
        may_exist = self._may_have_begun or not begin.is_new
        found = self._existing(experiment, begin.run) if may_exist else None
        run_id = found or self._create(experiment, begin)
        self._runs[begin.run] = run_id
        if found and not begin.is_new and is_superseded(self._client.get_run(run_id), begin.tags):
            self._taken_over.add(begin.run)
            return Created(begin.run, run_id, experiment)
        if begin.is_new and RESUMES in begin.tags and not self._may_have_begun:
            self._begin_alone(run_id, begin)
        params = begin.params if begin.is_new else self._begin_again(run_id, begin)
        self._unfinished[begin.run] = begin
        if begin.parent is None:
            self._with_heartbeat.add(begin.run)
            self._leading.add(run_id)
        if (parent := self._runs.get(begin.parent or "", "")) in self._jobs_of:
            self._jobs_of[parent].append(run_id)
        self._log_params(run_id, params)
        return Created(begin.run, run_id, experiment)

    def _begin_alone(self, run_id: str, begin: Begin) -> None:
        self.flush()
        try:
            begin_alone(self._client, run_id, begin.tags)
        except OwnedError as error:
            self._client.delete_run(run_id)
            raise ConcurrentStartError(f"resume: {error}") from None

    def _begin_again(self, run_id: str, begin: Begin) -> dict[str, str]:
        """Mark a sweep as running here, and move its unfinished children to MLflow's trash.

        Returns the params that are new. Params cannot be changed in MLflow: changed ones become tags `resumed.KEY`.
        """
        parent = self._client.get_run(run_id)
        known = parent.data.params
        changed = {key: value for key, value in begin.params.items() if known.get(key, value) != value}
        for key, value in (begin.tags | {f"resumed.{key}": value for key, value in changed.items()}).items():
            self._client.set_tag(run_id, key, value)
        for key in {OUTCOME, REAPED} & parent.data.tags.keys():  # of its earlier end
            self._client.delete_tag(run_id, key)
        self._client.update_run(run_id, status="RUNNING")
        for child in list(children(self._client, parent)):
            if child.info.status != "FINISHED":
                self._client.delete_run(child.info.run_id)
        return {key: value for key, value in begin.params.items() if key not in known}

    def _create(self, experiment: str, begin: Begin) -> str:
        tags = self._tags_of(begin)
        run_id: str = self._client.create_run(experiment, begin.time_ms, tags, begin.name).info.run_id
        return run_id

    def _tags_of(self, begin: Begin) -> dict[str, str]:
        tags = begin.tags | {ID_TAG: begin.run}
        if begin.parent is None:
            return tags | {HEARTBEAT: str(begin.time_ms)}
        if begin.parent not in self._runs:  # recorded by another process
            experiment = self._experiment(begin.experiment)
            self._runs[begin.parent] = Store._existing(self, experiment, begin.parent) or begin.parent
        return tags | {PARENT_TAG: self._runs[begin.parent]}

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        entities = [Param(key, value) for key, value in params.items()]
        for chunk in range(0, len(entities), PARAMS_A_REQUEST):
            self._client.log_batch(run_id, params=entities[chunk : chunk + PARAMS_A_REQUEST])

    @property
    def leading(self) -> list[str]:
        """The ids in MLflow of the runs of the journal that have no parent."""
        return sorted(self._leading)

    def _artifact(self, artifact: Artifact) -> None:
        self.put(self._runs[artifact.run], artifact.path, artifact.content)

    def put(self, run_id: str, path: str, content: bytes) -> None:
        """Write an artifact of a run, given by its id in MLflow.

        Raises:
            StoreError: the artifacts are not in the folder for artifacts of this store.
        """
        if run_id not in self._roots:
            self._roots[run_id] = self._root_of(run_id, self._client.get_run(run_id).info.artifact_uri)
        root = self._roots[run_id]
        if root is None:
            self._send_artifact(run_id, path, content)
        else:
            self._kept.append(write_artifact(root, run_id, path, content))

    def _send_artifact(self, run_id: str, path: str, content: bytes) -> None:
        place = PurePosixPath(path)
        folder_there = str(place.parent) if place.parent.name else None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / place.name
            file.write_bytes(content)
            self._client.log_artifact(run_id, str(file), folder_there)

    def _root_of(self, run_id: str, uri: str) -> Path | None:
        """Return the root folder for a run's artifacts; None if MLflow uploads them.

        Raises:
            StoreError: the artifacts are not in the folder for artifacts of this store.
        """
        folder = local_folder(uri)
        if folder is None:
            return None
        root = folder.parent.parent if self._artifacts is None else local_folder(self._artifacts)
        assert root is not None
        if folder.resolve() != run_folder(root, run_id).resolve():
            raise StoreError(f"run {run_id}: its artifacts are recorded in {folder}, expected {root}")
        return root

    def _existing(self, experiment: str, run: str) -> str | None:
        """Return the run if it exists: created by another recorder, or by a request without an answer."""
        found = self._client.search_runs([experiment], f"tags.`{ID_TAG}` = '{run}'", max_results=1)
        return found[0].info.run_id if found else None

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_experiment(name)
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                created: str = self._client.create_experiment(name, self._artifacts, tags=SHOWN_AS_TRAINING)
                return created
            except MlflowException:  # another process has created it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        identifier: str = found.experiment_id
        if found.lifecycle_stage != "active":
            self._restore_experiment(identifier)
            self.warning = f"experiment {name!r} was deleted: it is restored, without its deleted runs"
        return identifier

    def _restore_experiment(self, experiment: str) -> None:
        """Restore an experiment, and move the runs that MLflow restores with it to the trash again."""
        deleted = list(pages(self._client, [experiment], "", ViewType.DELETED_ONLY))
        self._client.restore_experiment(experiment)
        for run in deleted:
            self._client.delete_run(run.info.run_id)

    def _metrics(self, block: Metrics) -> None:
        for index, run in enumerate(block.runs):
            waiting = self._waiting.setdefault(run, [])
            time_ms = block.time_of(index)
            waiting += (Metric(key, value, time_ms, step) for key, value, step in block.of_run(index))
            full = len(waiting) - len(waiting) % METRICS_A_REQUEST
            self._log_metrics(run, waiting[:full])
            del waiting[:full]

    def _log_metrics(self, run: str, metrics: list[Metric]) -> None:
        for chunk in range(0, len(metrics), METRICS_A_REQUEST):
            self._client.log_batch(self._runs[run], metrics=metrics[chunk : chunk + METRICS_A_REQUEST])

    def _end(self, end: End) -> None:
        run_id = self._runs[end.run]
        results = [Metric(key, value, end.time_ms, end.step) for key, value in end.results.items()]
        self._log_metrics(end.run, self._waiting.get(end.run, []) + results)
        self._waiting.pop(end.run, None)
        if tags := self._end_tags(end):
            self._log_tags(run_id, tags)
        if end.status != GOES_ON:
            self._set_status(run_id, end.status, end.time_ms)
        self._forget(end.run)

    def _show(self, shown: Shown) -> None:
        experiment = self._experiment(self._unfinished[shown.run].experiment)

        def filled(tags: dict[str, str]) -> dict[str, str]:
            return {self._with_ids(key, experiment): self._with_ids(text, experiment) for key, text in tags.items()}

        self._log_tags(self._runs[shown.run], filled(shown.tags))
        write_experiment_tags(self._client, experiment, filled(shown.experiment_tags))

    def _with_ids(self, text: str, experiment: str) -> str:
        """Return a text with MLflow's ids for the references in it."""
        known = REFERENCE.sub(lambda match: self._runs.get(match[1], match[1]), text)
        return known.replace(EXPERIMENT, experiment)

    def _log_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _set_status(self, run_id: str, status: str, time_ms: int) -> None:
        self._client.set_terminated(run_id, status, time_ms)

    def _forget(self, run: str) -> None:
        self._unfinished.pop(run, None)
        self._with_heartbeat.discard(run)

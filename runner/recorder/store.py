"""MLflow's store as the recorder uses it: fed with journal entries."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.recorder.artifacts import local_folder, run_folder, write_artifact
from runner.recorder.errors import LostError, RivalError, StoreError, TakenError
from runner.recorder.names import accepted
from runner.recorder.ownership import OwnedError, begin_alone, is_anothers, is_superseded
from runner.recorder.presence import DatabaseFile, Last, lost_run
from runner.recorder.reading import ID_TAG, children, ledger_of, pages
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics, now_ms
from runner.tracking.processes import HEARTBEAT, REAPED, RESUMES

OUTCOME = "runner.outcome"
# Else the UI takes the experiment for one about language models.
SHOWN_AS_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
METRICS_A_REQUEST = 1000
PARAMS_A_REQUEST = 100


@dataclass(frozen=True)
class Created:
    """A run of ours, and what it is in MLflow."""

    run: str
    run_id: str
    experiment_id: str


class Store:
    """Applies journal entries through MLflow's public client; an entry applied twice changes nothing."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        self._may_have_begun = may_have_begun
        self._waiting: dict[str, list[Metric]] = {}
        self._client = self.client = client
        self._artifacts = artifacts
        self._experiments: dict[str, str] = {}
        self._roots: dict[str, Path | None] = {}
        self._runs: dict[str, str] = {}
        self._unfinished: dict[str, Begin] = {}
        self._beating: set[str] = set()
        self._left: set[str] = set()
        # What is to be there in the end, by MLflow's ids; and which of the runs have no parent.
        self._written: dict[str, Last] = {}
        self._leading: set[str] = set()
        self._kept: list[Path] = []
        self.warning: str | None = None
        # The database's, if it is one.
        self.file: DatabaseFile | None = None
        # Called while much is written, between two transactions.
        self.after_transaction: Callable[[], None] = lambda: None

    def _end_tags(self, end: End) -> dict[str, str]:
        return end.tags | {key: self._runs.get(run, run) for key, run in end.references.items()}

    def apply(self, entry: Entry) -> Created | None:
        """Write one entry; return the run that it created, if it did."""
        entry = accepted(entry)
        match entry:
            case Begin():
                created = self._begin(entry)
                self._written.setdefault(created.run_id, Last())
                return created
            case Metrics():
                self._metrics(entry)
                for run in entry.runs if entry.values else ():
                    self._note(run, max(entry.steps))
            case Artifact():
                self._artifact(entry)
            case End() if not self._is_left(entry.run):
                self._end(entry)
                self._note(entry.run, entry.step if entry.results else -1, has_ended=True)
        return None

    def _is_left(self, run: str) -> bool:
        if run not in self._left and self._is_anothers(run):
            self._leave(run)
        return run in self._left

    def _note(self, run: str, step: int, has_ended: bool = False) -> None:
        run_id = self._runs[run]
        self._written[run_id] = Last(max(self._written.get(run_id, Last()).step, step), has_ended)

    def check(self) -> None:
        """Look whether the store is still what it was when it was opened.

        Raises:
            LostError: its database was removed or replaced.
        """
        if self.file is not None:
            self.file.check()

    def verify(self) -> None:
        """Look whether all that was written since the last call is there to be read.

        Raises:
            LostError: it is not.
        """
        self.check()
        self._verify_runs(self._written)
        if missing := [path for path in self._kept if not path.is_file()]:
            raise LostError(f"{missing[0]}: was removed while runs were recorded")
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

    def ledger(self, sweep: str, resume: str | bool, experiment: str, claim: dict[str, Any]) -> dict[str, Any] | None:
        """Return the parent and the finished jobs of a sweep, as `Ledger.of` reads them; None where there is none.

        The sweep is the claimant's from then on.

        Args:
            sweep: the fingerprint of the sweep.
            resume: true for the last such sweep, or the id of the parent run.
            experiment: the name of the experiment to look in.
            claim: who wants to go on with it.

        Raises:
            StoreError: there is no such parent run, or its sweep is still running.
        """
        return ledger_of(self._client, sweep, resume, experiment, claim)

    def flush(self) -> None:
        """Write the metrics that were waiting for more, so that a request is worth its cost."""
        for run in list(self._waiting):
            self._log_metrics(run, self._waiting[run])
            self._waiting.pop(run)

    def close(self) -> None:
        """Let go of the store, once all is written."""

    def retry(self) -> None:
        """Take it that the last entry may have been written, though an error came back."""
        self._may_have_begun = True

    def beat(self) -> None:
        """Note that the runs that are under way were heard of now; a sweep's jobs have its heartbeat.

        Raises:
            TakenError: a sweep is another process's by now.
        """
        for run in list(self._beating):
            if self._is_anothers(run):
                self._leave(run)
                raise TakenError(f"sweep {self._runs[run]} was taken over by another process, which goes on with it")
            self._beat(self._runs[run])
        self._unmark()

    def _unmark(self) -> None:
        """Take from the runs of this journal the marks of those that took them for dead."""
        ours = {run_id: run for run, run_id in self._runs.items()}
        experiments = list(self._experiments.values())
        marked = self._client.search_runs(experiments, f"tags.`{REAPED}` != ''") if experiments else []
        for run_id in (run.info.run_id for run in marked if run.info.run_id in ours):
            self._client.delete_tag(run_id, REAPED)
            if ours[run_id] in self._unfinished:
                self._client.update_run(run_id, status="RUNNING")

    def _beat(self, run_id: str) -> None:
        self._client.set_tag(run_id, HEARTBEAT, str(now_ms()))

    def end_unfinished(self) -> None:
        """Mark the runs that the journal does not end as KILLED: their runner is gone; all others keep no such mark."""
        for run in list(self._unfinished):
            if self._may_have_begun and self._is_anothers(run):
                self._leave(run)
                continue
            self.apply(
                End(
                    run,
                    "KILLED",
                    now_ms(),
                    tags={OUTCOME: "killed: the runner's process ended without a word"},
                )
            )
        self.flush()
        self._unmark()

    def _is_anothers(self, run: str) -> bool:
        """Return whether a sweep that this journal began was resumed by another process, which ends it or has."""
        begin = self._unfinished.get(run)
        if begin is None or run not in self._beating or begin.tags.get("runner.kind") != "sweep":
            return False
        self.flush()
        return is_anothers(self._client.get_run(self._runs[run]), begin.tags)

    def _leave(self, run: str) -> None:
        """Write no more of a sweep that is another's."""
        self._forget(run)
        self._left.add(run)

    def _begin(self, begin: Begin) -> Created:
        experiment = self._experiment(begin.experiment)
        may_exist = self._may_have_begun or not begin.is_new
        found = self._existing(experiment, begin.run) if may_exist else None
        run_id = found or self._create(experiment, begin)
        self._runs[begin.run] = run_id
        if found and not begin.is_new and is_superseded(self._client.get_run(run_id), begin.tags):
            self._left.add(begin.run)
            return Created(begin.run, run_id, experiment)
        if begin.is_new and RESUMES in begin.tags and not self._may_have_begun:
            self._begin_alone(run_id, begin)
        params = begin.params if begin.is_new else self._begin_again(run_id, begin)
        self._unfinished[begin.run] = begin
        if begin.parent is None:
            self._beating.add(begin.run)
            self._leading.add(run_id)
        self._log_params(run_id, params)
        return Created(begin.run, run_id, experiment)

    def _begin_alone(self, run_id: str, begin: Begin) -> None:
        self.flush()
        try:
            begin_alone(self._client, run_id, begin.tags)
        except OwnedError as error:
            self._client.delete_run(run_id)
            raise RivalError(f"resume: {error}") from None

    def _begin_again(self, run_id: str, begin: Begin) -> dict[str, str]:
        """Mark a sweep as running here, and put its children that did not finish into MLflow's trash.

        Returns the params that are new. What MLflow lets no one change is written beside, as tags `resumed.KEY`.
        """
        parent = self._client.get_run(run_id)
        known = parent.data.params
        changed = {key: value for key, value in begin.params.items() if known.get(key, value) != value}
        for key, value in (begin.tags | {f"resumed.{key}": value for key, value in changed.items()}).items():
            self._client.set_tag(run_id, key, value)
        for key in {OUTCOME, REAPED} & parent.data.tags.keys():  # how it ended before
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
        if begin.parent not in self._runs:  # another process has recorded it
            experiment = self._experiment(begin.experiment)
            self._runs[begin.parent] = Store._existing(self, experiment, begin.parent) or begin.parent
        return tags | {"mlflow.parentRunId": self._runs[begin.parent]}

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        entities = [Param(key, value) for key, value in params.items()]
        for chunk in range(0, len(entities), PARAMS_A_REQUEST):
            self._client.log_batch(run_id, params=entities[chunk : chunk + PARAMS_A_REQUEST])

    def _artifact(self, artifact: Artifact) -> None:
        run_id = self._runs[artifact.run]
        if run_id not in self._roots:
            self._roots[run_id] = self._root_of(run_id, self._client.get_run(run_id).info.artifact_uri)
        root = self._roots[run_id]
        if root is None:
            self._send_artifact(run_id, artifact)
        else:
            self._kept.append(write_artifact(root, run_id, artifact.path, artifact.content))

    def _send_artifact(self, run_id: str, artifact: Artifact) -> None:
        place = PurePosixPath(artifact.path)
        folder_there = str(place.parent) if place.parent.name else None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / place.name
            file.write_bytes(artifact.content)
            self._client.log_artifact(run_id, str(file), folder_there)

    def _root_of(self, run_id: str, uri: str) -> Path | None:
        """Return the folder that those of runs are in, where a run's artifacts go; None where MLflow takes them.

        Raises:
            StoreError: it is none for artifacts of this store.
        """
        folder = local_folder(uri)
        if folder is None:
            return None
        root = folder.parent.parent if self._artifacts is None else local_folder(self._artifacts)
        assert root is not None
        if folder.resolve() != run_folder(root, run_id).resolve():
            raise StoreError(f"run {run_id}: its artifacts are said to be in {folder}, expected {root}")
        return root

    def _existing(self, experiment: str, run: str) -> str | None:
        """Return the run that another recorder of this journal has created, or that a lost answer left."""
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
            except MlflowException:  # another process was first
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        identifier: str = found.experiment_id
        if found.lifecycle_stage != "active":
            self._restore_experiment(identifier)
            self.warning = f"experiment {name!r} was deleted: it is back, without the runs that were deleted"
        return identifier

    def _restore_experiment(self, experiment: str) -> None:
        """Restore an experiment; the runs that MLflow brings back with it go to the trash again."""
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
        self._log_tags(run_id, self._end_tags(end))
        self._set_status(run_id, end.status, end.time_ms)
        self._forget(end.run)

    def _log_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _set_status(self, run_id: str, status: str, time_ms: int) -> None:
        self._client.set_terminated(run_id, status, time_ms)

    def _forget(self, run: str) -> None:
        self._unfinished.pop(run, None)
        self._beating.discard(run)

"""Reading back from MLflow what a run was composed of, so that it can be composed and run again."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.config.checking import checked_config
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.recorder.errors import StoreError
from runner.recorder.reading import PARENT_TAG, job_of
from runner.tracking.run_files import CONFIG, JOBS, OVERRIDES, RESUMED, SECRETS, SOURCE, jobs_in

# Keys that earlier versions did not have, with what they mean there.
LATER = {"report": True, "save_weights": None, "engine": "auto"}
# The one written in C, where there is one, is ten times as fast.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RecordedRun:
    """What a run was composed of, as the record has it.

    Attributes:
        tree: the resolved config in plain containers, secrets as `***`; without the sweep that it was part of.
        overrides: those that it was composed of, as they were written.
        hidden: the keys, and the lines of source, whose secrets are not recorded.
        source: the user's own source that it was made of, by file; empty where none was, or it was too large.
    """

    tree: dict[str, Any]
    overrides: list[str]
    hidden: list[str]
    source: dict[str, bytes]

    def config(self) -> Config:
        """Return the config, which equals that of the run except for its parent run and the secrets of its tracking.

        Raises:
            UserError: a secret that the run needs is not recorded, or this version does not accept the config.
        """
        keys = [key for key in self.hidden if not key.startswith(f"{SOURCE}/")]
        if keys:
            raise UserError(*(f"{key}=***: a secret, which is not recorded; expected its value" for key in keys))
        return checked_config(LATER | self.tree)


def read_back(client: MlflowClient, run_id: str) -> RecordedRun:
    """Return what a run was composed of: a single run, or a job of a sweep.

    Raises:
        StoreError: there is no such run, or its config is not recorded.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException:
        raise StoreError(f"{run_id}: no such run, expected the id of a run in MLflow") from None
    files = _artifacts(client, run_id)
    if CONFIG in files and run.data.tags.get("runner.kind") != "sweep":
        return _single_run(client, run, files)
    parent = run.data.tags.get(PARENT_TAG)
    found = None if parent is None else read_jobs(client, parent).get(job_of(run.data.tags))
    if found is None:
        raise StoreError(f"run {run_id}: its config is not recorded, expected a run of this program, or a sweep's job")
    return found


def _single_run(client: MlflowClient, run: Run, files: list[str]) -> RecordedRun:
    run_id = run.info.run_id
    tree, overrides = _yaml(client, run_id, CONFIG), _yaml(client, run_id, OVERRIDES) if OVERRIDES in files else []
    if not isinstance(tree, dict) or not isinstance(overrides, list):
        raise StoreError(f"run {run_id}: {CONFIG} or {OVERRIDES} is not as this program writes it")
    source = _sources(client, run_id, files, "")
    return RecordedRun(tree | {"parent_run": None}, overrides, run.data.tags.get(SECRETS, "").split(), source)


def read_jobs(client: MlflowClient, parent: str) -> dict[str, RecordedRun]:
    """Return what the record of a sweep holds of its jobs, by the runner's ids of their runs.

    Raises:
        StoreError: the record is not as this program writes it.
    """
    files = _artifacts(client, parent)
    jobs: dict[str, RecordedRun] = {}
    for path in (file for file in files if file == JOBS or (file.startswith(f"{RESUMED}/") and file.endswith(JOBS))):
        source = _sources(client, parent, files, path.removesuffix(JOBS))
        try:
            for run, job in jobs_in(read_file(client, parent, path)):
                jobs.setdefault(run, RecordedRun(job["config"], job["overrides"], job["hidden"], source))
        except ValueError as error:
            raise StoreError(f"run {parent}: {path}: {error}") from None
    return jobs


def _artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    """Return the paths of all artifacts of a run."""
    found: list[str] = []
    for entry in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def _sources(client: MlflowClient, run_id: str, files: list[str], folder: str) -> dict[str, bytes]:
    above = f"{folder}{SOURCE}/"
    return {file.removeprefix(above): read_file(client, run_id, file) for file in files if file.startswith(above)}


def _yaml(client: MlflowClient, run_id: str, path: str) -> Any:
    text = read_file(client, run_id, path)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader)):
            raise StoreError(f"run {run_id}: {path}: holds aliases, which this program does not write")
        return yaml.load(text, Loader)  # of plain values
    except (yaml.YAMLError, RecursionError) as error:
        raise StoreError(f"run {run_id}: {path}: cannot be read ({error})") from None


def read_artifact(client: MlflowClient, run_id: str, path: str) -> bytes | None:
    """Return the content of an artifact of a run; None where there is no such artifact."""
    folder = path.rpartition("/")[0] or None
    if path not in [entry.path for entry in client.list_artifacts(run_id, folder)]:
        return None
    return read_file(client, run_id, path)


def read_file(client: MlflowClient, run_id: str, path: str) -> bytes:
    """Return the content of an artifact of a run, which exists."""
    # Where tqdm is installed, MLflow would draw a progress bar for each file.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()

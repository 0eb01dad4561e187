"""Deleting runs and sweeps: moved to MLflow's trash, or removed from disk."""

import argparse
import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from mlflow.entities import LifecycleStage, Run, ViewType

from runner.config.folders import check_working_directory
from runner.messages.errors import UserError
from runner.messages.redaction import shown_text
from runner.recorder.commands import add_uri, print_all
from runner.recorder.finding import existing_store, find_runs
from runner.recorder.mlflow_private import (
    can_remove_runs,
    engine_of,
    get_artifact_repository,
    is_local_uri,
    local_file_uri_to_path,
    remove_run,
)
from runner.recorder.reading import ID_TAG, PARENT_TAG, pages
from runner.recorder.reap import has_live_process
from runner.recorder.store import Store

WHOLE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Family:
    """A run and its children, the jobs of a sweep."""

    run: Run
    children: Sequence[Run]

    @property
    def all(self) -> list[Run]:
        """The runs, children first: after an interruption their parent still finds them."""
        return [*self.children, self.run]

    @property
    def name(self) -> str:
        """Its description for the user."""
        kind = "sweep" if self.run.data.tags.get("runner.kind") == "sweep" else "run"
        jobs = f" and its {_counted(len(self.children))}" if self.children else ""
        return f"{kind} {self.run.info.run_id} ({self.run.info.run_name}){jobs}"


def find(store: Store, texts: Sequence[str]) -> list[Family]:
    """Return the runs with these ids, or prefixes of ids, with their children.

    Raises:
        UserError: with a line for each that matches no run, or several.
    """
    return [Family(run, _children(store, run)) for run in find_runs(store, texts)]


def _children(store: Store, run: Run) -> list[Run]:
    """Return the descendants of a run, the deepest first."""
    generations = [[run]]
    known = {run.info.run_id}
    while generations[-1]:
        found: list[Run] = []
        for parent in filter(_may_have_children, generations[-1]):
            condition = f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'"
            found += pages(store.client, [parent.info.experiment_id], condition, ViewType.ALL)
        generations.append([child for child in found if child.info.run_id not in known])
        known |= {child.info.run_id for child in found}
    return [child for generation in reversed(generations[1:]) for child in generation]


def _may_have_children(run: Run) -> bool:
    """Return whether a run may have children: a sweep, or a run of another program; a job of a sweep has none."""
    return run.data.tags.get("runner.kind") == "sweep" or ID_TAG not in run.data.tags


def check_over(store: Store, families: Sequence[Family]) -> None:
    """Check that none of the runs is running.

    Raises:
        UserError: with a line for each run or sweep that is.
    """
    alive = [
        family.name
        for family in families
        if any(run.info.status == "RUNNING" and has_live_process(store.client, run) for run in reversed(family.all))
    ]
    if alive:
        raise UserError(*(f"{name}: is running, expected one that has ended, or --force" for name in alive))


def delete(store: Store, family: Family) -> None:
    """Move a run and its children to MLflow's trash."""
    for run in family.all:
        if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
            store.client.delete_run(run.info.run_id)


def remove(store: Store, family: Family) -> None:
    """Remove a run and its children from disk: their artifacts, and their rows in the database."""
    for run in family.all:
        _remove_artifacts(run)
        remove_run(store.client, run.info.run_id)


def _remove_artifacts(run: Run) -> None:
    uri, run_id = run.info.artifact_uri, run.info.run_id
    if not is_local_uri(uri):
        get_artifact_repository(uri).delete_artifacts()
        return
    # The database is untrusted: only delete a folder named as MLflow names that of a run, and no link.
    path = Path(local_file_uri_to_path(uri))
    is_its_own = WHOLE_ID.fullmatch(run_id) and (path.parent.name, path.name) == (run_id, "artifacts")
    if is_its_own and path.is_dir() and not path.is_symlink() and not path.parent.is_symlink():
        shutil.rmtree(path)
        with contextlib.suppress(OSError):  # it holds something else
            path.parent.rmdir()


def _give_back_space(store: Store) -> None:
    engine = engine_of(store.client)
    if engine is None or engine.dialect.name != "sqlite":
        return
    with contextlib.suppress(sa.exc.OperationalError), engine.connect() as connection:  # others are writing
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")


def _counted(count: int) -> str:
    return f"{count:,} run{'s' if count != 1 else ''}"


def _deleted(texts: Sequence[str], uri: str, is_for_good: bool, is_forced: bool) -> Iterator[str]:
    """Delete the given runs, and yield a line for each.

    Raises:
        UserError: a run does not exist, or is running; nothing was deleted.
    """
    check_working_directory()
    store = existing_store(uri)
    if is_for_good and not can_remove_runs(store.client):
        raise UserError(
            f"--gc: a server such as {shown_text(uri)} removes nothing from disk for its clients, "
            "expected 'mlflow gc' where its database is"
        )
    families = find(store, texts)
    if not is_forced:
        check_over(store, families)
    for family in families:
        in_trash = sum(run.info.lifecycle_stage != LifecycleStage.ACTIVE for run in family.all)
        delete(store, family)
        if is_for_good:
            remove(store, family)
            yield f"deleted    {family.name}, from disk"
        elif in_trash == len(family.all):
            yield f"unchanged  {family.name}: in MLflow's trash already, --gc deletes from disk"
        else:
            yield f"deleted    {family.name}: now in MLflow's trash, --gc deletes from disk"
    if is_for_good:
        _give_back_space(store)
    store.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Delete and return the exit code: 2 where nothing was deleted."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.delete", description="Delete runs, and sweeps with all their runs."
    )
    parser.add_argument("id", nargs="+", help="of a run or a sweep, or its first characters")
    parser.add_argument(
        "--gc", action="store_true", help="remove from disk, with artifacts; default: move to MLflow's trash"
    )
    parser.add_argument("--force", action="store_true", help="delete running ones too")
    add_uri(parser)
    asked = parser.parse_args(arguments)
    return print_all(_deleted(asked.id, asked.uri, asked.gc, asked.force), asked.uri)

"""Recording a shard where it is executed: a journal and a recorder of the node's own, for stores that nodes reach.

They record the runs with all their values. Only once these can be read back, the driver gets the entries that end the
runs: a run that has ended counts, and one whose worker has died does not, whatever is recorded of it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.launchers.shard import Place
from runner.launchers.work import Work
from runner.messages.errors import RunnerError, UserError
from runner.messages.redaction import shown_text
from runner.tracking.files import lock
from runner.tracking.journal import GOES_ON, JOURNALS, Artifact, End, Entry, Known, encode
from runner.tracking.journal_tracker import JournalTracker

if TYPE_CHECKING:
    from runner.engine.batches import Member

# What MLflow reads to be let in by a server.
ENVIRONMENT = "MLFLOW_TRACKING_"
URI = "MLFLOW_TRACKING_URI"
RECORDERS = ("driver", "nodes")
# Of the temporary folder of a shard.
PREFIX = "runner-shard-"


def store_of(key: str, groups: "Sequence[Sequence[Member]]") -> str | None:
    """Return the URI of the store, where nodes can record by themselves; None if nothing is recorded.

    Args:
        key: of the launcher's settings.
        groups: the runs to record.

    Raises:
        UserError: they cannot.
    """
    tracking = next((member.config.tracking for group in groups for member in group[:1]), None)
    if tracking is None or tracking.uri is None:
        return None
    given = f"{key}.record=nodes"
    if tracking.uri.startswith("sqlite"):
        instead = "expected a tracking server or PostgreSQL, or record=driver"
        raise UserError(f"{given}: SQLite is for one machine, {instead}")
    if tracking.offline == "spool":
        raise UserError(f"{given}: tracking.offline=spool is for record=driver, expected tracking.offline=error")
    return tracking.uri


def check_no_password(key: str, uri: str | None) -> None:
    """Check that nodes that have this process's environment find a store's password there.

    Raises:
        UserError: it is in the config alone.
    """
    if uri is not None and shown_text(uri) != uri and os.environ.get(URI) != uri:
        given = f"{key}.record=nodes: the password of tracking.uri={shown_text(uri)} would be written to a file"
        raise UserError(f"{given}, expected the URI in the variable {URI}")


def place_of(work: Work, with_secrets: bool = True) -> Place | None:
    """Return where nodes record, once the parent run can be found there; None where nothing is recorded.

    Args:
        work: what the nodes execute.
        with_secrets: whether they get the store's password from here; else they have the environment of this process.

    Raises:
        RecordingError: the parent run cannot be recorded.
    """
    members = [member for group in work.groups for member in group[:1]]
    if not members or (parent := members[0].config.parent_run) is None:
        return None
    found, tracking = work.tracker.wait_for(parent), members[0].config.tracking
    if found is None:
        return None
    artifacts = None if tracking.artifacts is None else str(Path(tracking.artifacts).absolute())
    uri = tracking.uri if with_secrets else shown_text(tracking.uri or "")
    tracking = replace(tracking, uri=uri, artifacts=artifacts)
    environment = {name: text for name, text in os.environ.items() if with_secrets and name.startswith(ENVIRONMENT)}
    return Place(Known(parent, found.run_id, found.experiment_id, has_jobs=True), tracking, environment)


class NodeRecord:
    """The record of a shard on its node."""

    def __init__(self, place: Place, folder: Path) -> None:
        os.environ.update(place.environment)
        tracking, known = place.tracking, os.environ.get(URI)
        if known is not None and shown_text(known) == tracking.uri:  # here without its password
            tracking = replace(tracking, uri=known)
        self._tracker = JournalTracker(tracking, folder=folder)
        self._tracker.append(place.sweep)
        self._for_driver: list[Entry] = []
        self.is_whole = False

    def append(self, entry: Entry) -> None:
        """Take a journal entry of the shard: files are for the driver, which has a folder for them."""
        if isinstance(entry, Artifact):
            self._for_driver.append(entry)
            return
        if isinstance(entry, End):
            self._for_driver.append(replace(entry, results={}, tags={}))
            entry = replace(entry, status=GOES_ON)
        self._tracker.append(entry)

    def check(self) -> None:
        """Read the messages of the recorder, and start another if it was killed."""
        self._tracker.check()

    def finish(self) -> bytes:
        """Wait until the runs are recorded; return what the driver is to record of them.

        Raises:
            RecordingError: they could not be recorded.
        """
        self._tracker.finish()
        self.is_whole = True
        ids = {run: self._tracker.recorded(run) for run in dict.fromkeys(_run_of(one) for one in self._for_driver)}
        known = [Known(run, found.run_id, found.experiment_id) for run, found in ids.items() if found is not None]
        return b"".join(map(encode, [*known, *self._for_driver]))

    def give_up(self) -> None:
        """Record what there is, for a few seconds; the runs are KILLED."""
        with contextlib.suppress(RunnerError):
            self._tracker.finish(is_hurried=True)


def remove_abandoned() -> None:
    """Remove the folders of shards that have neither worker nor recorder any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or removed meanwhile
            journals = [*folder.glob(JOURNALS.joinpath("*.journal").as_posix())]
            is_ours = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
            if is_ours and journals and all(map(_is_free, journals)):
                shutil.rmtree(folder)


def _is_free(journal: Path) -> bool:
    """Return whether no process holds a journal."""
    with journal.open("rb") as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _run_of(entry: Entry) -> str:
    assert isinstance(entry, Artifact | End)
    return entry.run


@contextlib.contextmanager
def recording(place: Place | None) -> Iterator[NodeRecord | None]:
    """Give the record of a shard in a place; None where the driver records."""
    if place is None:
        yield None
        return
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        record = NodeRecord(place, folder)
        try:
            yield record
        except BaseException:
            record.give_up()
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)

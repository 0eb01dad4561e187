"""Recording journals whose runner has ended, each entry exactly once however often this is repeated."""

import argparse
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.folders import check_working_directory
from runner.config.uris import absolute_uri, sqlite_path, sqlite_uri
from runner.messages.errors import UserError
from runner.messages.printing import for_shell, print_error, print_lines, warn
from runner.messages.redaction import HIDDEN, shown_text
from runner.recorder.errors import StoreError
from runner.recorder.opening import describe_error, open_store
from runner.recorder.relocation import followed
from runner.recorder.store import Store
from runner.tracking.files import OUTPUTS, lock, open_to_read
from runner.tracking.journal import JOURNALS, Begin, JournalReader, Open
from runner.tracking.processes import is_alive_here

SETTLE_SECONDS = 60
POLL_SECONDS = 0.05


@dataclass
class Replayed:
    """The outcome of a replay.

    Attributes:
        journals: how many journals were recorded.
        runs: how many runs began in them.
        corrupt: how many entries could not be read, or belong to a run whose start could not.
        kept: why other journals were kept, a line each.
        warnings: further messages.
    """

    journals: int = 0
    runs: int = 0
    corrupt: int = 0
    kept: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Replayer:
    """Records journals in the stores that the user named: a journal may be untrusted, and name any place."""

    def __init__(self, uris: Sequence[str], artifacts: Sequence[str] = ()) -> None:
        """Allow these stores in addition to the default, with their passwords, which journals do not contain.

        Args:
            uris: of the stores.
            artifacts: folders for artifacts, besides `artifacts` next to each database.
        """
        self._uris = {shown_text(absolute_uri(uri)): uri for uri in uris}
        self._artifacts = {Path(folder).absolute() for folder in artifacts} | {(OUTPUTS / "artifacts").absolute()}
        self._stores: dict[tuple[str, str | None], Store] = {}

    def replay(self, folder: Path, patience: float = SETTLE_SECONDS) -> Replayed:
        """Record every journal in a folder whose runner has ended; wait for those that another process has locked.

        A recorded journal is deleted; one with unreadable entries is renamed.
        """
        done = Replayed()
        self._allow_default(folder.absolute().parent)
        deadline = time.monotonic() + patience
        for path in sorted(folder.glob("*.journal")):
            try:
                with _locked(path, deadline) as is_locked:
                    if is_locked:
                        self._record(path, done)
            except Exception as error:  # an error in one journal must not stop the others
                self._stores.clear()  # which may have buffered entries of it
                line = describe_error(error, "")
                done.kept.append(line if line.startswith(str(path)) else f"{path}: {line}")
        for store in self._stores.values():
            done.warnings += [store.warning] if store.warning is not None else []
            store.close()
        return done

    def _allow_default(self, outputs: Path) -> None:
        """Allow the database and the artifacts next to the folder of journals, and the artifacts next to databases."""
        uri = sqlite_uri(outputs / "mlflow.db")
        self._uris.setdefault(uri, uri)
        databases = [path for path in map(sqlite_path, self._uris.values()) if path is not None]
        self._artifacts |= {path.parent / "artifacts" for path in databases}

    def _record(self, path: Path, done: Replayed) -> None:
        with contextlib.closing(JournalReader(path)) as reader:
            entries = reader.entries(is_complete=True)
            opening = next(entries, None)
            if not isinstance(opening, Open):
                raise StoreError(f"{path}: its first entry, which names its store, cannot be read")
            store = self._store(followed(opening, path))
            runs, lost = 0, 0
            for entry in entries:
                try:
                    store.apply(entry)
                except KeyError:  # of a run whose start is lost
                    lost += 1
                    continue
                runs += isinstance(entry, Begin)
        store.end_unfinished()
        store.flush()
        store.verify()
        done.runs += runs
        done.journals += 1
        done.corrupt += reader.corrupt + lost
        if reader.corrupt + lost:
            path.rename(path.with_suffix(".corrupt"))
        else:
            path.unlink()

    def _store(self, opening: Open) -> Store:
        uri = self._uris.get(opening.uri)
        if uri is None:
            password = ", with the password" if HIDDEN in opening.uri else ""
            raise StoreError(
                f"is for {opening.uri}, which was not asked for; "
                f"if it is right{password}: --uri {for_shell(opening.uri)}"
            )
        folder = opening.artifacts
        if folder is not None and Path(folder) not in self._artifacts:
            raise StoreError(
                f"has artifacts for {folder}, which was not asked for; "
                f"if it is right: --artifacts {for_shell(str(folder))}"
            )
        key = (uri, folder)
        if key not in self._stores:
            self._stores[key] = open_store({"uri": uri, "artifacts": folder, "again": True})
        return self._stores[key]


class _locked:  # noqa: N801  # reads as a verb in a with statement
    """Locks a journal; yields False if its runner is alive or the journal was removed."""

    def __init__(self, path: Path, deadline: float) -> None:
        self._path = path
        self._deadline = deadline

    def __enter__(self) -> bool:
        try:
            self._file = open(open_to_read(self._path), "rb")  # closed in __exit__
        except FileNotFoundError:
            return False
        while True:
            try:
                lock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._path.exists() and self._path.stat().st_size > 0
            except BlockingIOError:
                # The recorder of a runner that was just killed may still be writing.
                if time.monotonic() > self._deadline or _runner_lives(self._path):
                    return False
                time.sleep(POLL_SECONDS)

    def __exit__(self, *_error: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _runner_lives(path: Path) -> bool:
    try:
        opening = next(JournalReader(path).entries(is_complete=False), None)
    except OSError:
        return False
    return isinstance(opening, Open) and is_alive_here(opening.process)


def _lines(done: Replayed) -> Iterator[str]:
    journals = f"{done.journals} journal{'s' if done.journals != 1 else ''}"
    yield f"replayed   {journals}, {done.runs} run{'s' if done.runs != 1 else ''}, {done.corrupt} corrupt entries"


def main() -> int:
    """Replay and return the exit code: 1 where a journal could not be recorded."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.replay", description="Record journals whose runner has ended."
    )
    parser.add_argument(
        "--uri", help="a store that journals may be for, with its password, in addition to outputs/mlflow.db"
    )
    parser.add_argument(
        "--artifacts", help="a folder that journals may have artifacts for, in addition to outputs/artifacts"
    )
    parser.add_argument("--folder", type=Path, default=JOURNALS, help="of the journals (%(default)s)")
    arguments = parser.parse_args()
    try:
        check_working_directory()
    except UserError as error:
        print_error(f"error: {error}")
        return error.exit_code
    uris = [uri for uri in (os.environ.get("MLFLOW_TRACKING_URI"), arguments.uri) if uri]
    done = Replayer(uris, [arguments.artifacts] if arguments.artifacts else []).replay(arguments.folder)
    print_lines(*_lines(done))
    for line in done.warnings:
        warn(line)
    for line in done.kept:
        print_error(f"error: {line}")
    return 1 if done.kept else 0

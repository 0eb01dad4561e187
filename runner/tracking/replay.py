"""Recording what is left in journals whose runner is gone, exactly once however often it is tried."""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.hiding import HIDDEN, shown_text
from runner.tracking.errors import StoreError
from runner.tracking.journal import JOURNALS, Begin, Close, JournalReader, Open
from runner.tracking.opening import describe_error, open_store
from runner.tracking.processes import lives
from runner.tracking.relocation import followed
from runner.tracking.store import Store
from runner.tracking.uris import absolute_uri

SETTLE_SECONDS = 60
POLL_SECONDS = 0.05


@dataclass
class Replayed:
    """What a replay has done.

    Attributes:
        journals: how many journals are recorded now.
        runs: how many runs began in them.
        corrupt: how many entries could not be read, or belong to a run whose beginning could not.
        kept: why each of the others is kept, a line each.
        warnings: what else there is to say.
    """

    journals: int = 0
    runs: int = 0
    corrupt: int = 0
    kept: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Replayer:
    """Records journals, whichever stores they are for."""

    def __init__(self, uris: Sequence[str]) -> None:
        """Take the URIs that may be those of journals, with the passwords that journals leave out."""
        self._uris = {shown_text(absolute_uri(uri)): uri for uri in uris}
        self._stores: dict[tuple[str, str | None], Store] = {}

    def replay(self, folder: Path, patience: float = SETTLE_SECONDS) -> Replayed:
        """Record every journal of a folder whose runner is gone; one that another process works on is waited for.

        A journal is deleted when all of it is in. One with entries that cannot be read is set aside then, under
        another name.
        """
        done = Replayed()
        deadline = time.monotonic() + patience
        for path in sorted(folder.glob("*.journal")):
            try:
                with _locked(path, deadline) as is_ours:
                    if is_ours:
                        self._record(path, done)
            except StoreError as error:
                done.kept.append(f"{path}: {error}")
        for store in self._stores.values():
            done.warnings += [store.warning] if store.warning is not None else []
            store.close()
        return done

    def _record(self, path: Path, done: Replayed) -> None:
        reader = JournalReader(path)
        entries = reader.entries(is_complete=True)
        store: Store | None = None
        lost = 0
        for entry in entries:
            if isinstance(entry, Open):
                store = self._store(followed(entry, path))
            if isinstance(entry, Open | Close) or store is None:
                lost += store is None and not isinstance(entry, Close)
                continue
            try:
                _apply(store, entry)
            except KeyError:  # of a run whose beginning is lost
                lost += 1
                continue
            done.runs += isinstance(entry, Begin)
        if store is None:
            raise StoreError("its first entry, which says where it belongs, cannot be read")
        store.end_unfinished()
        store.flush()
        try:
            store.verify()
        except Exception as error:
            raise StoreError(describe_error(error, "")) from error
        done.journals += 1
        done.corrupt += reader.corrupt + lost
        if reader.corrupt + lost:
            path.rename(path.with_suffix(".corrupt"))
        else:
            path.unlink()

    def _store(self, opening: Open) -> Store:
        uri = self._uris.get(opening.uri, None if HIDDEN in opening.uri else opening.uri)
        if uri is None:
            raise StoreError(f"is for {opening.uri}: expected that URI with its password as --uri")
        key = (uri, opening.artifacts)
        if key not in self._stores:
            self._stores[key] = open_store({"uri": uri, "artifacts": opening.artifacts, "again": True})
        return self._stores[key]


def _apply(store: Store, entry: Any) -> None:
    try:
        store.apply(entry)
    except KeyError:
        raise
    except Exception as error:  # whatever the store says, the journal stays
        raise StoreError(describe_error(error, "")) from error


class _locked:  # noqa: N801  # reads as a verb in a with statement
    """Holds a journal that nobody else works on; gives False where its runner lives or it is gone."""

    def __init__(self, path: Path, deadline: float) -> None:
        self._path = path
        self._deadline = deadline

    def __enter__(self) -> bool:
        try:
            self._file = open(self._path, "rb")  # closed on leaving
        except FileNotFoundError:
            return False
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._path.exists() and self._path.stat().st_size > 0
            except BlockingIOError:
                # A recorder may still be at work for a runner that was killed a moment ago.
                if time.monotonic() > self._deadline or _runner_lives(self._path):
                    return False
                time.sleep(POLL_SECONDS)

    def __exit__(self, *_error: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _runner_lives(path: Path) -> bool:
    try:
        opening = next(JournalReader(path).entries(is_complete=False), None)
    except FileNotFoundError:
        return False
    return isinstance(opening, Open) and lives(opening.process)


def _lines(done: Replayed) -> Iterator[str]:
    journals = f"{done.journals} journal{'s' if done.journals != 1 else ''}"
    yield f"replayed   {journals}, {done.runs} run{'s' if done.runs != 1 else ''}, {done.corrupt} corrupt entries"


def main() -> int:
    """Replay and return the exit code: 1 where a journal could not be recorded."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.replay", description="Record what is left in journals whose runner is gone."
    )
    parser.add_argument("--uri", help="the store, with its password, where a journal's has one")
    parser.add_argument("--folder", type=Path, default=JOURNALS, help="of the journals (%(default)s)")
    arguments = parser.parse_args()
    uris = [uri for uri in (os.environ.get("MLFLOW_TRACKING_URI"), arguments.uri) if uri]
    done = Replayer(uris).replay(arguments.folder)
    print("\n".join(_lines(done)))
    for line in done.warnings:
        print(f"warning: {line}", file=sys.stderr)
    for line in done.kept:
        print(f"error: {line}", file=sys.stderr)
    return 1 if done.kept else 0

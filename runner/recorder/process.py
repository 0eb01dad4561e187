"""The recorder: a process that follows a journal and writes its entries to MLflow.

It reads its settings as a line of JSON from standard input, whose end means that the runner has ended. To standard
output it writes messages, a line of JSON each: the runs that it has created, its progress, or what went wrong.
"""

import contextlib
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.messages.errors import one_line
from runner.messages.redaction import shown_text
from runner.recorder.errors import ConcurrentStartError, RecordLostError, StoreError, TakenOverError, UnreachableError
from runner.recorder.mlflow_settings import configure_mlflow
from runner.recorder.reachability import unreachable
from runner.tracking.journal import Close, Entry, JournalReader
from runner.tracking.processes import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from runner.recorder.store import Store

POLL_SECONDS = 0.01
PROGRESS_SECONDS = 0.2
RETRY_SECONDS = 0.5
# How long the runner waits at its end for a store that fails.
LAST_SECONDS = 5
Result = TypeVar("Result")


def main() -> None:
    """Record the journal that standard input names, and exit."""
    runner = Runner()
    settings = json.loads(runner.read_line())
    configure_mlflow()
    # Garbage collection would make the import of MLflow half as long again.
    gc.disable()
    try:
        code = _recorded(settings, runner)
    except Exception as error:  # the runner prints it without secrets
        runner.send(failed=one_line(error))
        code = 1
    # A normal exit would spend longer on unloading MLflow's modules than a run takes to record.
    os._exit(code)


def _recorded(settings: dict[str, Any], runner: "Runner") -> int:
    # Checked before MLflow is imported, so that an unreachable server is reported within seconds.
    if (reason := unreachable(settings["uri"])) is not None:
        return _refuse(f"tracking.uri={shown_text(settings['uri'])}: {reason}", settings, runner)
    with _entry_points_read_once():
        import mlflow.tracking  # noqa: F401

    return record(settings | {"is_reached": True}, runner)


@contextlib.contextmanager
def _entry_points_read_once() -> Iterator[None]:
    """Read the metadata of all packages once: MLflow's import asks for entry points ten times."""
    entry_points = importlib.metadata.entry_points
    known = entry_points()
    importlib.metadata.entry_points = known.select  # the same result, from what was read
    try:
        yield
    finally:
        importlib.metadata.entry_points = entry_points


class Runner:
    """The runner's ends of the pipes: reads its messages, sends it messages, and knows whether it is alive."""

    def __init__(self) -> None:
        self.is_alive = True
        self.is_closing = False
        # The runner could not parse what MLflow prints.
        self._stdout = os.dup(sys.stdout.fileno())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  # open until the process exits
        threading.Thread(target=_close_stderr_after_runner, daemon=True).start()

    def read_line(self) -> bytes:
        """Return the next line from the runner; empty if it has ended."""
        line = self._stdin.readline()
        self.is_alive = line != b""
        return line

    def wait(self, seconds: float) -> dict[str, Any]:
        """Wait for a message from the runner and return it; empty after `seconds`, or if the runner has ended."""
        if self.is_alive and select.select([self._stdin], [], [], seconds)[0] and (line := self.read_line()):
            message: dict[str, Any] = json.loads(line)
            self.is_closing |= "closed" in message
            return message
        return {}

    def read_pending(self) -> None:
        """Read the pending messages of the runner."""
        while self.is_alive and select.select([self._stdin], [], [], 0)[0]:
            self.wait(0)

    def send(self, **message: Any) -> None:
        """Send a message to the runner, if it is alive."""
        if not self.is_alive:
            return
        try:
            _write_all(self._stdout, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self.is_alive = False


def _close_stderr_after_runner() -> None:
    """Close standard error once the runner has ended, so that a reader of it does not wait for this process."""
    gone = select.poll()
    gone.register(sys.stdin.fileno(), 0)  # a hang-up is reported without being asked for
    gone.poll()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def record(settings: dict[str, Any], runner: Runner) -> int:
    """Follow the journal of `settings` to its end and return the exit code.

    The journal is deleted once all of it can be read back from the store.
    """
    from runner.recorder.opening import describe_error, open_store, prepared

    journal = Path(settings["journal"])
    try:
        store = open_store(settings) if prepared(settings) else None
        if not _wait_for(journal, runner, store, settings):
            return 0
        store = store or open_store(settings)
    except UnreachableError as error:
        return _refuse(str(error), settings, runner)
    except StoreError as error:
        runner.send(refused=str(error))
        return 2
    except Exception as error:  # a journal that has begun is kept, whatever the error
        if not journal.exists():
            return _refuse(describe_error(error, settings["uri"]), settings, runner)
        runner.send(failed=describe_error(error, settings["uri"]))
        return 1
    gc.freeze()
    gc.enable()
    recorder = Recorder(store, runner)
    try:
        recorder.record(journal)
    except ConcurrentStartError as error:
        runner.send(refused=str(error))
        return 2
    except TakenOverError as error:
        runner.send(taken=str(error))
        return 1
    except RecordLostError as error:
        runner.send(lost=describe_error(error, settings["uri"]))
        return 1
    except Exception as error:  # the journal is kept, and the runner says so, whatever the error
        runner.send(failed=describe_error(error, settings["uri"]))
        return 1
    journal.unlink(missing_ok=True)
    runner.send(whole=True)
    _call_afterwards(settings, store.leading)
    return 0


def _call_afterwards(settings: dict[str, Any], runs: Sequence[str]) -> None:
    """Call the function that the runner has named with the runs that have no parent; nobody waits for it."""
    module, _, name = (settings.get("afterwards") or "").rpartition(".")
    if not module or not runs:
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    with contextlib.suppress(Exception):  # all is recorded, whatever happens
        os.nice(10)
        getattr(importlib.import_module(module), name)(settings, runs)


def _refuse(reason: str, settings: dict[str, Any], runner: Runner) -> int:
    runner.send(**{"away" if settings["offline"] == "spool" else "refused": reason})
    return 2


class Recorder:
    """Writes one journal to a store, and retries what fails while the runner runs."""

    def __init__(self, store: "Store", runner: Runner) -> None:
        self._store = store
        self._runner = runner
        self._created: list[tuple[str, str, str]] = []
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self._next_progress = time.monotonic() + PROGRESS_SECONDS

    def record(self, journal: Path) -> None:
        """Record the journal to its end."""
        self._reader = reader = JournalReader(journal)
        reader.hold()
        self._runner.read_pending()
        if not self._runner.is_alive:  # a replay may have recorded it already
            if not journal.exists():
                return
            self._store.retry()
        self._store.after_transaction = functools.partial(self._send_progress_if_due, reader)
        self._send_warning()
        for entry in follow(reader, self._runner, self._idle):
            created = self._write(functools.partial(self._store.apply, entry))
            self._send_warning()
            if created is not None:
                self._created.append((created.run, created.run_id, created.experiment_id))
            self._send_progress_if_due(reader)
            self._heartbeat_if_due()
        self._write(self._store.end_unfinished)
        self._write(self._store.flush)
        self._send_progress(reader)
        self._store.close()
        self._write(self._store.verify)

    def _idle(self) -> None:
        self._heartbeat_if_due()
        if self._created:
            self._send_progress_if_due(self._reader)
        self._write(self._store.flush)

    def _heartbeat_if_due(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
            self._write(self._store.heartbeat)

    def _send_warning(self) -> None:
        if self._store.warning is not None:
            self._runner.send(warning=self._store.warning)
            self._store.warning = None

    def _send_progress_if_due(self, reader: JournalReader) -> None:
        if time.monotonic() >= self._next_progress:
            self._send_progress(reader)

    def _send_progress(self, reader: JournalReader) -> None:
        self._next_progress = time.monotonic() + PROGRESS_SECONDS
        created, self._created = self._created, []
        self._runner.send(runs=created, recorded_bytes=reader.position)

    def _write(self, action: Callable[[], Result]) -> Result:
        """Call `action` until it succeeds; give up some seconds after the runner has closed the journal or ended."""
        give_up_at = None
        while True:
            try:
                done = action()
                self._store.check()
                return done
            except (KeyError, RecordLostError, ConcurrentStartError, TakenOverError):
                raise
            except Exception:  # unreachable, locked, full: it may pass
                self._store.check()
                if self._runner.is_closing or not self._runner.is_alive:
                    give_up_at = give_up_at or time.monotonic() + LAST_SECONDS
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    raise
                self._store.retry()
                self._runner.wait(RETRY_SECONDS)
                if not self._runner.is_alive:
                    time.sleep(RETRY_SECONDS)


def _wait_for(journal: Path, runner: Runner, store: "Store | None", settings: dict[str, Any]) -> bool:
    """Wait for the journal, answering the runner's questions; return False if the runner has ended without one."""
    from runner.recorder.opening import open_store, prepared
    from runner.recorder.reap import reap_all
    from runner.recorder.replay import Replayer

    if store is not None:
        reap_all(store)
    while not journal.exists():
        if not runner.is_alive or runner.is_closing:
            return journal.exists()
        message = runner.wait(POLL_SECONDS)
        if "ledger" in message:
            # If the first run of a folder was killed, there is a journal but no database yet.
            artifacts = [settings["artifacts"]] if settings["artifacts"] else []
            done = Replayer([settings["uri"]], artifacts).replay(journal.parent)
            for line in done.warnings + done.kept:
                runner.send(warning=line)
            if store is None and prepared(settings):
                store = open_store(settings)
            runner.send(ledger=None if store is None else store.ledger(**message["ledger"]))
    return True


def follow(reader: JournalReader, runner: Runner, when_idle: Callable[[], None]) -> Iterator[Entry]:
    """Yield the entries of the journal as they are appended, until it is closed or the runner has ended."""
    while True:
        is_complete = not runner.is_alive
        for entry in reader.entries(is_complete):
            if isinstance(entry, Close):
                return
            yield entry
        if is_complete:
            return
        when_idle()
        runner.wait(POLL_SECONDS)

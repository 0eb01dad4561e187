"""The recorder: a process of its own that follows a journal and brings it to MLflow.

It hears its settings as a line of JSON on standard input, whose end means that the runner is gone, and
tells on standard output which runs it has created, or in one line what went wrong.
"""

import contextlib
import functools
import gc
import importlib.metadata
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.messages.errors import one_line
from runner.messages.redaction import shown_text
from runner.recorder.errors import AwayError, LostError, RivalError, StoreError, TakenError
from runner.recorder.reach import unreachable
from runner.recorder.silence import quiet_mlflow
from runner.tracking.journal import Close, Entry, JournalReader
from runner.tracking.processes import BEAT_SECONDS

if TYPE_CHECKING:
    from runner.recorder.store import Store

POLL_SECONDS = 0.01
NEWS_SECONDS = 0.2
RETRY_SECONDS = 0.5
# How long the runner is kept waiting, at its end, for a store that does not take what it is given.
LAST_SECONDS = 5
Result = TypeVar("Result")


def main() -> None:
    """Record the journal that standard input names, and leave at once."""
    runner = Runner()
    settings = json.loads(runner.hear())
    quiet_mlflow()
    # Imported while the runner imports torch; looking for garbage in it would take half as long again.
    gc.disable()
    try:
        code = _recorded(settings, runner)
    except Exception as error:  # the runner prints it as all it prints, without secrets
        runner.tell(failed=one_line(error))
        code = 1
    # MLflow's worlds of modules would take longer to take down than a run takes to record.
    os._exit(code)


def _recorded(settings: dict[str, Any], runner: "Runner") -> int:
    # Asked before MLflow is imported, so that a server that is away is told within seconds.
    if (reason := unreachable(settings["uri"])) is not None:
        return _refuse(f"tracking.uri={shown_text(settings['uri'])}: {reason}", settings, runner)
    with _entry_points_read_once():
        import mlflow.tracking  # noqa: F401

    return record(settings | {"is_reached": True}, runner)


@contextlib.contextmanager
def _entry_points_read_once() -> Iterator[None]:
    """Import what asks ten times for entry points, for each of which Python reads all packages' metadata."""
    entry_points = importlib.metadata.entry_points
    known = entry_points()
    importlib.metadata.entry_points = known.select  # the same, of what was read
    try:
        yield
    finally:
        importlib.metadata.entry_points = entry_points


class Runner:
    """The runner's end of the pipes: whether it lives, and telling it something."""

    def __init__(self) -> None:
        self.is_alive = True
        self.is_closing = False
        # What MLflow prints of its own accord is nothing that the runner would understand.
        self._stdout = os.dup(sys.stdout.fileno())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  # as long as we live
        threading.Thread(target=_let_go_of_terminal, daemon=True).start()

    def hear(self) -> bytes:
        """Return the next line of the runner; nothing when it is gone."""
        line = self._stdin.readline()
        self.is_alive = line != b""
        return line

    def wait(self, seconds: float) -> dict[str, Any]:
        """Sleep, but wake up when the runner says something, which is returned, or is gone."""
        if self.is_alive and select.select([self._stdin], [], [], seconds)[0] and (line := self.hear()):
            message: dict[str, Any] = json.loads(line)
            self.is_closing |= "closed" in message
            return message
        return {}

    def catch_up(self) -> None:
        """Hear all that the runner has said so far, or that it is gone."""
        while self.is_alive and select.select([self._stdin], [], [], 0)[0]:
            self.wait(0)

    def tell(self, **message: Any) -> None:
        """Say something to the runner, if it is there to hear it."""
        if not self.is_alive:
            return
        try:
            _write_all(self._stdout, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self.is_alive = False


def _let_go_of_terminal() -> None:
    """Close standard error once the runner is gone: who reads it to its end would wait for us."""
    gone = select.poll()
    gone.register(sys.stdin.fileno(), 0)  # its hanging up is told unasked
    gone.poll()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def record(settings: dict[str, Any], runner: Runner) -> int:
    """Follow the journal of `settings` to its end and return the exit code.

    The journal is deleted when all of it is in the store, where it can be read.
    """
    from runner.recorder.opening import describe_error, open_store, prepared

    journal = Path(settings["journal"])
    try:
        store = open_store(settings) if prepared(settings) else None
        if not _wait_for(journal, runner, store, settings):
            return 0
        store = store or open_store(settings)
    except AwayError as error:
        return _refuse(str(error), settings, runner)
    except StoreError as error:
        runner.tell(refused=str(error))
        return 2
    except Exception as error:  # whatever it was, a journal that has begun is kept
        if not journal.exists():
            return _refuse(describe_error(error, settings["uri"]), settings, runner)
        runner.tell(failed=describe_error(error, settings["uri"]))
        return 1
    gc.freeze()
    gc.enable()
    try:
        Recorder(store, runner).record(journal)
    except RivalError as error:
        runner.tell(refused=str(error))
        return 2
    except TakenError as error:
        runner.tell(taken=str(error))
        return 1
    except LostError as error:
        runner.tell(lost=describe_error(error, settings["uri"]))
        return 1
    except Exception as error:  # whatever it was, the journal is kept and the runner says so
        runner.tell(failed=describe_error(error, settings["uri"]))
        return 1
    journal.unlink(missing_ok=True)
    runner.tell(whole=True)
    return 0


def _refuse(reason: str, settings: dict[str, Any], runner: Runner) -> int:
    runner.tell(**{"away" if settings["offline"] == "spool" else "refused": reason})
    return 2


class Recorder:
    """Brings one journal to a store; what fails is tried again for as long as the runner runs."""

    def __init__(self, store: "Store", runner: Runner) -> None:
        self._store = store
        self._runner = runner
        self._created: list[tuple[str, str, str]] = []
        self._next_beat = time.monotonic() + BEAT_SECONDS
        self._next_news = time.monotonic() + NEWS_SECONDS

    def record(self, journal: Path) -> None:
        """Record the journal to its end."""
        reader = JournalReader(journal)
        reader.hold()
        self._runner.catch_up()
        if not self._runner.is_alive:  # a replay may have been here before us
            if not journal.exists():
                return
            self._store.retry()
        self._store.after_transaction = functools.partial(self._tell_news_if_due, reader)
        self._tell_warning()
        for entry in follow(reader, self._runner, self._idle):
            created = self._insist(functools.partial(self._store.apply, entry))
            self._tell_warning()
            if created is not None:
                self._created.append((created.run, created.run_id, created.experiment_id))
            self._tell_news_if_due(reader)
            self._beat_if_due()
        self._insist(self._store.end_unfinished)
        self._insist(self._store.flush)
        self._tell_news(reader)
        self._store.close()
        self._insist(self._store.verify)

    def _idle(self) -> None:
        self._beat_if_due()
        self._insist(self._store.flush)

    def _beat_if_due(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self._insist(self._store.beat)

    def _tell_warning(self) -> None:
        if self._store.warning is not None:
            self._runner.tell(warning=self._store.warning)
            self._store.warning = None

    def _tell_news_if_due(self, reader: JournalReader) -> None:
        if time.monotonic() >= self._next_news:
            self._tell_news(reader)

    def _tell_news(self, reader: JournalReader) -> None:
        self._next_news = time.monotonic() + NEWS_SECONDS
        created, self._created = self._created, []
        self._runner.tell(runs=created, recorded_bytes=reader.position)

    def _insist(self, write: Callable[[], Result]) -> Result:
        """Write, again where it fails, until it is done or the runner has waited long enough for it."""
        give_up_at = None
        while True:
            try:
                done = write()
                self._store.check()
                return done
            except (KeyError, LostError, RivalError, TakenError):
                raise
            except Exception:  # the store is away, locked, full: whatever it is, it may pass
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
    """Return whether the runner has begun to write; False when it is gone without. Answer what it asks till then."""
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
            # Whose first run was killed may have left all that there is in a journal, and no database yet.
            artifacts = [settings["artifacts"]] if settings["artifacts"] else []
            done = Replayer([settings["uri"]], artifacts).replay(journal.parent)
            for line in done.warnings + done.kept:
                runner.tell(warning=line)
            if store is None and prepared(settings):
                store = open_store(settings)
            runner.tell(ledger=None if store is None else store.ledger(**message["ledger"]))
    return True


def follow(reader: JournalReader, runner: Runner, when_idle: Callable[[], None]) -> Iterator[Entry]:
    """Yield the journal's entries as they come, until it is closed or the runner is gone."""
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

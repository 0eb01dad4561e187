"""The recorder: a process of its own that follows a journal and brings it to MLflow.

It hears its settings as a line of JSON on standard input, whose end means that the runner is gone, and
tells on standard output which runs it has created, or in one line what went wrong.
"""

import gc
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.tracking.journal import Close, Entry, JournalReader

if TYPE_CHECKING:
    from runner.tracking.store import Store

POLL_SECONDS = 0.01


def main() -> None:
    """Record the journal that standard input names, and leave at once."""
    runner = Runner()
    settings = json.loads(runner.hear())
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # Imported while the runner imports torch; looking for garbage in it would take half as long again.
    gc.disable()
    import mlflow.tracking  # noqa: F401

    code = record(settings, runner)
    sys.stdout.flush()
    # MLflow's worlds of modules would take longer to take down than a run takes to record.
    os._exit(code)


class Runner:
    """The runner's end of the pipes: whether it lives, and telling it something."""

    def __init__(self) -> None:
        self.is_alive = True
        self._stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  # as long as we live

    def hear(self) -> bytes:
        """Return the next line of the runner; nothing when it is gone."""
        line = self._stdin.readline()
        self.is_alive = line != b""
        return line

    def wait(self, seconds: float) -> dict[str, Any]:
        """Sleep, but wake up when the runner says something, which is returned, or is gone."""
        if self.is_alive and select.select([self._stdin], [], [], seconds)[0] and (line := self.hear()):
            message: dict[str, Any] = json.loads(line)
            return message
        return {}

    def tell(self, **message: Any) -> None:
        """Say something to the runner, if it is there to hear it."""
        if not self.is_alive:
            return
        try:
            os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self.is_alive = False


def record(settings: dict[str, Any], runner: Runner) -> int:
    """Follow the journal of `settings` to its end and return the exit code; the journal is deleted when all is in."""
    from runner.tracking.store import StoreError, describe_error, open_store, prepared

    journal = Path(settings["journal"])
    try:
        store = open_store(settings) if prepared(settings) else None
        if not _wait_for(journal, runner, store):
            return 0
        store = store or open_store(settings)
        if store.warning is not None:
            runner.tell(warning=store.warning)
        gc.freeze()
        gc.enable()
    except StoreError as error:
        runner.tell(refused=str(error))
        return 2
    try:
        for entry in follow(JournalReader(journal), runner, store.flush):
            if (created := store.apply(entry)) is not None:
                runner.tell(run=created.run, run_id=created.run_id, experiment_id=created.experiment_id)
        store.end_unfinished()
        store.flush()
    except Exception as error:  # whatever it was, the journal is kept and the runner says so
        runner.tell(failed=describe_error(error, settings["uri"]))
        return 1
    journal.unlink()
    return 0


def _wait_for(journal: Path, runner: Runner, store: "Store | None") -> bool:
    """Return whether the runner has begun to write; False when it is gone without. Answer what it asks till then."""
    while not journal.exists():
        if not runner.is_alive:
            return journal.exists()
        message = runner.wait(POLL_SECONDS)
        if "ledger" in message:
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

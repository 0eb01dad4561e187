"""The tracker that writes a journal, which a recorder process copies to MLflow."""

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from runner.config.schema import Tracking
from runner.config.uris import SQLITE, absolute_uri, sqlite_uri
from runner.messages.errors import RecordingError, UserError
from runner.messages.printing import for_shell, warn
from runner.messages.ranges import shown
from runner.messages.redaction import shown_text
from runner.tracking.journal import JOURNALS, Close, Entry, JournalWriter, Open, encode, now_ms
from runner.tracking.ledger import Ledger
from runner.tracking.permission import check_places
from runner.tracking.processes import process_tags

# How long a stopped run waits for its record, and how long any run waits for a message from the recorder.
HURRIED_SECONDS = 3
NO_MESSAGE_SECONDS = 120
# A recorder that exits sooner than this is not restarted during the run.
RESTART_SECONDS = 5
WAIT_SECONDS = 0.1
REPLAY = "python -m runner.replay"
OnRecorded = Callable[[int, int], None]
# Recorders that go on alone; kept, so that those that have exited are waited for in a process that lasts.
_left: list[subprocess.Popen[bytes]] = []
RECORDER = "from runner.recorder.process import main; main()"


@dataclass(frozen=True)
class Recorded:
    """A run that the recorder has created in MLflow."""

    run_id: str
    experiment_id: str


class JournalTracker:
    """Writes a journal, which a recorder process copies to MLflow while it grows.

    The recorder starts at once, so that it imports MLflow while the runner imports torch. The journal is created at the
    first entry; before that nothing is created in MLflow.
    """

    def __init__(
        self,
        tracking: Tracking,
        on_recorded: OnRecorded | None = None,
        afterwards: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start the recorder.

        Args:
            tracking: where to record.
            on_recorded: as in `tracking_to`.
            afterwards: as in `tracking_to`.
            folder: holds the journal instead of the working directory, where no artifacts are recorded.

        Raises:
            RecordingError: the journal or the artifacts cannot be written.
            UserError: the database cannot be written.
        """
        self._tracking = tracking
        self._afterwards = afterwards
        self.owner = uuid.uuid4().hex
        self._folder = folder or Path.cwd()
        self._path = self._folder / JOURNALS / f"{self.owner}.journal"
        if folder is None:
            check_places(self._path.parent, tracking)
        self._journal: JournalWriter | None = None
        # The run's id in MLflow, by the runner's; and the experiment, which has few different values.
        self._recorded: dict[str, tuple[str, str]] = {}
        self._experiments: dict[str, str] = {}
        self._on_recorded = on_recorded
        self._ledger: Ledger | None = None
        self._is_answered = False
        self._away: str | None = None
        self._lost: str | None = None
        self._failed: str | None = None
        self._is_again = False
        self._is_refused = False
        self._is_whole = False
        self._recorder = self._start_recorder(again=False)

    def append(self, entry: Entry) -> None:
        """Append an entry to the journal.

        Raises:
            RecordingError: the journal cannot be written.
        """
        self.append_encoded(encode(entry))

    def append_encoded(self, entries: bytes) -> None:
        """Append entries that another process has encoded to the journal.

        Raises:
            RecordingError: the journal cannot be written.
        """
        try:
            if self._journal is None:
                self._journal = JournalWriter(self._path)
                self._journal.append(self._opening())
            self._journal.append_encoded(entries)
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be written ({error.strerror})") from None

    def _opening(self) -> Open:
        artifacts = None if self._tracking.artifacts is None else str(Path(self._tracking.artifacts).absolute())
        return Open(shown_text(absolute_uri(self._tracking.uri or "")), artifacts, process_tags())

    def check(self) -> None:
        """Read the messages of the recorder so far; if it was killed, start another, which reads the journal again.

        Raises:
            UserError: the recorder refuses the store; nothing was recorded.
        """
        while b"\n" in self._unread or select.select([self._stdout], [], [], 0)[0]:
            if not self._read_message():
                is_due = time.monotonic() - self._started >= RESTART_SECONDS
                if is_due and self._away is None and self._failed is None:
                    self._restart_recorder()
                return

    def ledger(self, sweep: str, resume: str | bool, may_join: bool = False) -> Ledger | None:
        """Ask the recorder for the finished jobs of a sweep; it first replays left journals.

        Args:
            sweep: the fingerprint of the sweep.
            resume: true for the last such sweep, or the id of the parent run in MLflow.
            may_join: whether sweeps that other processes are running are passed over.

        Raises:
            UserError: there is no such parent run, its sweep is still running, or the recorder does not answer.
        """
        self._ledger = None
        self._is_answered = False
        claim = {"owner": self.owner, "since_ms": now_ms(), **process_tags()}
        question = {"sweep": sweep, "resume": resume, "experiment": self._tracking.experiment, "claim": claim}
        self._send({"ledger": question | {"may_join": may_join}})
        while not self._is_answered and self._read_message():
            pass
        if not self._is_answered:
            raise UserError(f"resume={shown(resume)}: expected a store that answers, this one does not")
        return self._ledger

    def recorded(self, run: str) -> Recorded | None:
        """Return the run in MLflow, once the recorder has created it."""
        found = self._recorded.get(run)
        return None if found is None else Recorded(*found)

    def wait_for(self, run: str) -> Recorded:
        """Wait until the recorder has created a run that has begun.

        Raises:
            RecordingError: it cannot.
        """
        while (found := self.recorded(run)) is None:
            self.check()
            if (reason := self._failed or self._away) is not None:
                raise RecordingError(reason)
            select.select([self._stdout], [], [], WAIT_SECONDS)
        return found

    def finish(self, is_hurried: bool = False) -> None:
        """Close the journal and wait until the recorder has committed all of it.

        If that takes too long, the recorder continues alone; if it cannot, the journal is kept for a replay.

        Args:
            is_hurried: wait only a few seconds, as after Ctrl-C.

        Raises:
            UserError: the recorder refuses the store; nothing was recorded.
            RecordingError: the recorder failed; the journal is kept.
        """
        if self._journal is None or self._is_refused:
            self.abandon()
            return
        self.append(Close())
        deadline = time.monotonic() + HURRIED_SECONDS if is_hurried else math.inf
        self._failed = None
        with contextlib.closing(self._journal):
            self._read_until_exit(deadline)
            # The recorder was killed, or the database removed.
            if not self._is_settled and self._restart_recorder():
                self._read_until_exit(deadline)
            if self._is_whole or self._away is not None:
                return
            self._restore_journal()
        reason = self._failed or "not everything could be recorded"
        raise RecordingError(f"{reason}; the journal is kept: {self._path}, record it later: {self._replay}")

    @property
    def _is_settled(self) -> bool:
        return self._is_whole or self._away is not None or self._failed is not None

    def _read_until_exit(self, deadline: float) -> None:
        """Read the messages of the recorder until it exits.

        Raises:
            RecordingError: the deadline has passed, or it has sent no message for too long.
        """
        self._send({"closed": True})
        is_open = True
        while is_open:
            patience = min(deadline - time.monotonic(), NO_MESSAGE_SECONDS)
            if b"\n" not in self._unread and not select.select([self._stdout], [], [], max(patience, 0))[0]:
                raise RecordingError(
                    f"the record is not complete yet; if it stays so, {self._path} holds it: {self._replay}"
                )
            is_open = self._read_message()
            if self._is_whole and self._afterwards is not None:
                self._leave_recorder()
                return
        self._recorder.communicate()

    def _leave_recorder(self) -> None:
        """Let the recorder go on alone with what it does afterwards."""
        for pipe in (self._recorder.stdin, self._recorder.stdout):
            if pipe is not None:
                pipe.close()
        _left[:] = [one for one in _left if one.poll() is None]
        _left.append(self._recorder)

    def _restart_recorder(self) -> bool:
        """Start another recorder, which reads the journal from its start; return False if the folder is missing."""
        self._recorder.wait()
        self._restore_journal()
        if not self._folder.exists():
            self._failed = f"{self._folder}: was removed while runs were recorded there"
            return False
        if self._lost is not None:
            self._warn(f"{self._lost}; these runs are recorded there again")
            self._lost = None
        self._recorder = self._start_recorder(again=True)
        return True

    def _restore_journal(self) -> None:
        """Write the journal again if it was removed; follow the working directory if that was renamed.

        Raises:
            RecordingError: it cannot be written.
        """
        assert self._journal is not None
        if not self._folder.exists():  # moved, unless it was removed
            with contextlib.suppress(FileNotFoundError):
                self._folder = Path.cwd()
        try:
            self._journal.put_back(self._folder / JOURNALS / self._path.name)
        except OSError as error:
            raise RecordingError(f"{self._path}: was removed, and what was not recorded is lost ({error})") from None
        self._path = self._journal.path

    @property
    def _replay(self) -> str:
        """The command that replays the journal."""
        folder, uri = self._folder / JOURNALS, self._tracking.uri or ""
        uri = SQLITE.sub(lambda match: sqlite_uri(self._folder / unquote(match["path"]), match["scheme"]), uri)
        is_moved = self._path.parent != folder
        is_asked_for = uri in (sqlite_uri(folder.parent / "mlflow.db"), os.environ.get("MLFLOW_TRACKING_URI"))
        options = [f" --folder {self._path.parent}"] if is_moved else []
        options += [] if is_asked_for and not is_moved else [f" --uri {for_shell(shown_text(uri))}"]
        return REPLAY + "".join(options)

    def abandon(self) -> None:
        """Kill the recorder, which has nothing to record."""
        self._recorder.kill()
        self._recorder.communicate()

    def _start_recorder(self, again: bool) -> subprocess.Popen[bytes]:
        # A plain script: a child of multiprocessing would import the caller's main module. In a session of its own,
        # neither Ctrl-C nor a kill of the runner's process group reaches it.
        recorder = subprocess.Popen(
            [sys.executable, "-P", "-c", RECORDER],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": _import_path()},
        )
        self._recorder = recorder
        self._is_again = again
        self._unread = b""  # drop the incomplete message of a killed recorder
        self._started = time.monotonic()
        # The URI may hold a password: sent through a pipe, it is in no command line.
        settings = {"journal": str(self._path), "again": again, "afterwards": self._afterwards}
        self._send(settings | vars(self._tracking))
        return recorder

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._recorder.stdout is not None
        return self._recorder.stdout

    def _send(self, message: dict[str, Any]) -> None:
        assert self._recorder.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed, which reading from it shows too
            self._recorder.stdin.write(json.dumps(message).encode() + b"\n")

    def _read_message(self) -> bool:
        """Read and handle one message of the recorder; return False if it has exited."""
        while b"\n" not in self._unread:
            more = os.read(self._stdout.fileno(), 2**16)
            if not more:
                return False
            self._unread += more
        line, _, rest = self._unread.partition(b"\n")
        self._unread = rest
        self._handle(json.loads(line))
        return True

    def _handle(self, message: dict[str, Any]) -> None:
        for run, run_id, experiment_id in message.get("runs", ()):
            self._recorded[run] = run_id, self._experiments.setdefault(experiment_id, experiment_id)
        if "away" in message:
            self._away = message["away"]
            self._warn(f"{self._away}; the record waits in {self._path}: {self._replay} records it there")
        if "ledger" in message:
            self._is_answered = True
            self._ledger = None if message["ledger"] is None else Ledger.of(message["ledger"])
        if "recorded_bytes" in message and self._on_recorded is not None:
            self._on_recorded(message["recorded_bytes"], self._size)
        if "warning" in message:
            self._warn(message["warning"])
        self._is_whole |= "whole" in message
        self._lost = message.get("lost", self._lost)
        if "refused" in message and not self._is_again:
            self._is_refused = True
            self._delete_journal()
            raise UserError(message["refused"])
        if "taken" in message:
            raise RecordingError(message["taken"])
        self._failed = message.get("failed", message.get("refused", self._failed))

    @property
    def _size(self) -> int:
        """The length of the journal, which the recorder deletes when all is recorded."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 1

    def _warn(self, text: str) -> None:
        warn(text)

    def _delete_journal(self) -> None:
        self._path.unlink(missing_ok=True)
        for folder in (self._path.parent, self._path.parent.parent):
            with contextlib.suppress(OSError):  # it holds something else
                folder.rmdir()


def _import_path() -> str:
    """Return this process's import path, so that the recorder imports the same program."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)

"""What the recorder's process does once all is recorded: the figures of a run, page and figures of a sweep."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from runner.messages.errors import UserError, one_line
from runner.messages.redaction import shown_text
from runner.recorder.opening import open_store, prepared
from runner.recorder.store import Store

FOLDER = "report"

ERROR = "report.error"
# Runs started one after another would have as many processes draw at once.
AT_ONCE = 4


def write(settings: dict[str, Any], runs: Sequence[str]) -> None:
    """Draw runs, given by their ids in MLflow, and record the files as their artifacts.

    Where that fails, the reason is a tag of the run.
    """
    if not prepared(settings):  # removed meanwhile: it would be made again
        return
    store = open_store(settings | {"again": False, "is_reached": True})
    with _turn() as is_free:
        for run_id in runs:
            try:
                _write(store, settings["uri"], run_id, is_free)
            except Exception as error:  # all is recorded, whatever happens
                reason = shown_text(one_line(error))
                store.client.set_tag(run_id, ERROR, f"{reason}; to try again: python -m runner.report {run_id}")


def _write(store: Store, uri: str, run_id: str, is_free: bool) -> None:
    if not is_free:
        raise UserError(f"{AT_ONCE} other processes were drawing")
    from runner.report.files import files_of

    for path, content in files_of(run_id, uri):
        store.put(run_id, f"{FOLDER}/{path}", content)


@contextlib.contextmanager
def _turn() -> Iterator[bool]:
    """Take one of a few turns, which end with this process; give False where all are taken."""
    with contextlib.ExitStack() as stack:
        for number in range(AT_ONCE):
            turn = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                turn.bind(f"\0gradient-descent-runner.{os.getuid()}.{number}")  # a name without a file
            except OSError:
                continue
            yield True
            return
        yield False

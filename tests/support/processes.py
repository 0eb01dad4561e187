"""Processes that tests start, wait for and find."""

import time
from collections.abc import Callable
from pathlib import Path

LONG = ["steps=3000000", "log_every=100", "lr=0.0001"]
PATIENCE = 60


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def recorder_of(process: int) -> int:
    """Return the child of a run that leads a session of its own."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                _, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == process and session == folder.name:
                return int(folder.name)
    raise AssertionError("no recorder")

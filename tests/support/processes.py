"""Processes that tests start, wait for and look for."""

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
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == process and b"runner.recorder.process" in command:
                return int(folder.name)
    raise AssertionError("no recorder")

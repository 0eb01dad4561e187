"""Restoring the caller's global state after a call from Python: torch's number of threads and the import path."""

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class _Calls:
    """The calls in progress in all threads: the first saves the state of the caller, the last restores it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    threads: int = 0
    folders: Counter[str] = field(default_factory=Counter)


_calls = _Calls()


@contextlib.contextmanager
def caller_state_restored() -> Iterator[None]:
    """Restore the number of torch's threads, and remove the working directory from the import path if it was added."""
    folder = str(Path.cwd())
    with _calls.lock:
        if _calls.count == 0:
            _calls.threads = torch.get_num_threads()
        _calls.count += 1
        was_missing = folder in _calls.folders or folder not in sys.path
        if was_missing:
            _calls.folders[folder] += 1
    try:
        yield
    finally:
        with _calls.lock:
            _calls.count -= 1
            if _calls.count == 0:
                torch.set_num_threads(_calls.threads)
            if was_missing:
                _calls.folders[folder] -= 1
                if _calls.folders[folder] == 0:
                    del _calls.folders[folder]
                    while folder in sys.path:  # added to import a user's function
                        sys.path.remove(folder)

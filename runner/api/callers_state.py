"""What a process has only one of, given back to whoever calls us from Python: torch's threads and the import path."""

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
    """The calls that are in progress, in all threads: the first finds the caller's state, the last gives it back."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    threads: int = 0
    folders: Counter[str] = field(default_factory=Counter)


_calls = _Calls()


@contextlib.contextmanager
def of_the_caller() -> Iterator[None]:
    """Give back the number of torch's threads, and an import path without the working directory if it had none."""
    folder = str(Path.cwd())
    with _calls.lock:
        if _calls.count == 0:
            _calls.threads = torch.get_num_threads()
        _calls.count += 1
        is_ours = folder in _calls.folders or folder not in sys.path
        if is_ours:
            _calls.folders[folder] += 1
    try:
        yield
    finally:
        with _calls.lock:
            _calls.count -= 1
            if _calls.count == 0:
                torch.set_num_threads(_calls.threads)
            if is_ours:
                _calls.folders[folder] -= 1
                if _calls.folders[folder] == 0:
                    del _calls.folders[folder]
                    while folder in sys.path:  # where a function of the user's was looked for
                        sys.path.remove(folder)

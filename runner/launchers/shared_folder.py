"""Messages through files of a folder that all nodes see: what a worker appends, the driver reads while it grows.

A message is its length and CRC-32, then its pickled bytes. On a network file system a reader may see the end of a file
before all of its bytes: a message is read only once it is whole.
"""

import contextlib
import json
import os
import pickle
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from runner.tracking.processes import HEARTBEAT, is_alive_here, is_here, process_tags

HEADER = struct.Struct("<QI")
READ_AT_ONCE = 2**24
ALIVE = "driver.json"
BEAT_SECONDS = 5
# A worker on another machine ends itself once it has seen no heartbeat of its driver for so long.
SILENT_SECONDS = 45
LOOK_SECONDS = 1
# How a process ends without its driver; any number but 0.
ABANDONED = 75


def append(path: Path, message: Any) -> None:
    """Append a message to a file; it is closed, so that other machines see it."""
    content = pickle.dumps(message)
    with path.open("ab") as file:
        file.write(HEADER.pack(len(content), zlib.crc32(content)) + content)


@dataclass
class Tail:
    """The messages of a file, read as it grows; the file is opened each time, because a network may keep old bytes."""

    path: Path
    _place: int = 0

    def new(self) -> Iterator[Any]:
        """Yield the messages that are whole and have not been read."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self._place)
            read = 0
            while read < READ_AT_ONCE and len(header := file.read(HEADER.size)) == HEADER.size:
                length, checksum = HEADER.unpack(header)
                content = file.read(length)
                if len(content) < length or zlib.crc32(content) != checksum:
                    return
                read += HEADER.size + length
                self._place += HEADER.size + length
                yield pickle.loads(content)


@dataclass
class Heartbeat:
    """Tells the workers that this process is alive, by a file that a thread rewrites."""

    folder: Path
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Write the file, and keep it new."""
        self._beat()
        threading.Thread(target=self._keep, daemon=True).start()

    def stop(self) -> None:
        """Remove the file: workers that are left end themselves."""
        self._ended.set()
        (self.folder / ALIVE).unlink(missing_ok=True)

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # such as a full disk, for a while
                self._beat()

    def _beat(self) -> None:
        tags = {**process_tags(), HEARTBEAT: str(int(time.time() * 1000))}
        written = self.folder / f"{ALIVE}.new"
        written.write_text(json.dumps(tags))
        written.replace(self.folder / ALIVE)


def driver_of(folder: Path) -> dict[str, str] | None:
    """Return the tags of the process that a folder belongs to; None if it has ended in order.

    Raises:
        OSError: they cannot be read just now.
    """
    try:
        found = json.loads((folder / ALIVE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise OSError(f"{folder / ALIVE}: cannot be read") from None
    return {str(key): str(value) for key, value in found.items()}


def end_with_driver(folder: Path, needed: Path) -> None:
    """End this process when its driver has ended, or has removed a file that the process needs."""
    threading.Thread(target=_watch, args=(folder, needed), daemon=True).start()


def _watch(folder: Path, needed: Path) -> None:
    beat, since = "", time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            tags = driver_of(folder)
            if tags is None or not needed.exists():
                _exit("its sweep has ended, or has no use for this job any more")
            if is_here(tags) and not is_alive_here(tags):
                _exit("the process of its sweep has ended")
            if is_here(tags) or tags.get(HEARTBEAT, "") != beat:
                beat, since = tags.get(HEARTBEAT, ""), time.monotonic()
        if time.monotonic() - since > SILENT_SECONDS:
            _exit(f"no heartbeat of the process of its sweep for {SILENT_SECONDS} seconds")
        time.sleep(LOOK_SECONDS)


def exit_on(reasons: dict[signal.Signals, str]) -> None:
    """End this process at some signals, and print why."""

    def handle(number: int, _frame: FrameType | None) -> None:
        _exit(reasons[signal.Signals(number)])

    for received in reasons:
        signal.signal(received, handle)


def _exit(reason: str) -> NoReturn:
    print(f"ended: {reason}", file=sys.stderr, flush=True)
    os._exit(ABANDONED)

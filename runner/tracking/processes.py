"""Which process a run belongs to, and whether it still lives."""

import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path

HOST = "runner.host"
PID = "runner.pid"
# Process ids are used again; with the time at which the process began they are not.
STARTED = "runner.pid_started"
# When a run was last heard of, in milliseconds since 1970.
HEARTBEAT = "runner.heartbeat"


@functools.cache
def process_tags() -> dict[str, str]:
    """Return the tags that say which process a run belongs to."""
    return {HOST: socket.gethostname(), PID: str(os.getpid()), STARTED: _started(os.getpid()) or ""}


def lives(tags: Mapping[str, str]) -> bool:
    """Return whether the process that a run's tags name lives on this host."""
    if tags.get(HOST) != socket.gethostname() or not tags.get(PID, "").isdigit():
        return False
    process = int(tags[PID])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    started = _started(process)
    # Where the system does not tell, any process of that id may be the one.
    return started is None or tags.get(STARTED, "") in ("", started)


def _started(process: int) -> str | None:
    """Return when a process began, in the system's own count; None where it does not tell, `gone` of a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]

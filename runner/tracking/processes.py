"""Which process a run belongs to, and whether that process is alive.

A process id is valid only on its host, since the last boot, and in its namespace of processes; containers on one
machine may share host and boot. For runs of other places the heartbeat decides.

`psutil` does not fit: it takes 30 ms to import, and its `create_time` moves when the clock is set, so that a live
process would be taken for another one. The kernel's count of ticks does not move.
"""

import functools
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

HOST = "runner.host"
BOOT = "runner.boot"
NAMESPACE = "runner.pid_namespace"
PID = "runner.pid"
# Process ids are reused; together with its start time, one is unique.
STARTED = "runner.pid_started"
IDENTITY = (HOST, BOOT, NAMESPACE, PID, STARTED)
# The id of the tracker that owns a sweep, as in the claims.
OWNER = "runner.owner"
# Set on a run that was marked as killed because its process had ended: by which host.
REAPED = "runner.reaped"
# Set on a new sweep that was started with `resume=true`.
RESUMES = "runner.resume"
# The last heartbeat of a run, in milliseconds since 1970; the jobs of a sweep have their parent's.
HEARTBEAT = "runner.heartbeat"
HEARTBEAT_SECONDS = 60
STALE_SECONDS = 2 * HEARTBEAT_SECONDS
# A record may be untrusted, and hold numbers of any length.
NUMBER = re.compile(r"[0-9]{1,14}")


@functools.cache
def process_tags() -> dict[str, str]:
    """Return the tags that identify this process."""
    return {**_place(), PID: str(os.getpid()), STARTED: _started("self") or ""}


# A forked child has an id of its own, and perhaps a namespace of its own.
os.register_at_fork(after_in_child=process_tags.cache_clear)


def is_alive(tags: Mapping[str, str], silent_seconds: float = STALE_SECONDS) -> bool:
    """Return whether the process in a run's tags is alive: looked up if it is local, else by its last heartbeat."""
    return is_alive_here(tags) if is_here(tags) else seconds_since_heartbeat(tags) < silent_seconds


def is_alive_here(tags: Mapping[str, str]) -> bool:
    """Return whether the process in a run's tags is alive on this host and in this namespace."""
    if not is_here(tags) or not NUMBER.fullmatch(tags.get(PID, "")):
        return False
    process = int(tags[PID])
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        pass
    started = _started(str(process))
    # Without a start time, any process of that id may be the right one.
    return started is None or tags.get(STARTED, "") in ("", started)


def seconds_since_heartbeat(tags: Mapping[str, str]) -> float:
    """Return the seconds since the last heartbeat of a run."""
    beat = tags.get(HEARTBEAT, "0")
    return time.time() - (int(beat) / 1000 if NUMBER.fullmatch(beat) else 0)


def is_here(tags: Mapping[str, str]) -> bool:
    """Return whether the process in a run's tags can be looked up in this place."""
    return all(tags.get(key) == value for key, value in _place().items())


def _place() -> dict[str, str]:
    """Return the tags of the place in which this process's id is valid."""
    return {HOST: socket.gethostname(), BOOT: _boot(), NAMESPACE: _namespace()}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(process: str) -> str | None:
    """Return the start time of a process in kernel ticks: None if it is not available, `gone` for a zombie."""
    try:
        # A namespace without a /proc of its own sees the process ids of another one.
        if process != "self" and str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]

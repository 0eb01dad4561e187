"""Which process a run belongs to, and whether it still lives.

A process id means something only where it was given: on that host, since it was started, in that namespace of
processes; containers on one machine may share the first two. Elsewhere the heartbeat tells.
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
# Process ids are used again; with the time at which the process began they are not.
STARTED = "runner.pid_started"
IDENTITY = (HOST, BOOT, NAMESPACE, PID, STARTED)
# Which tracker's a sweep is, as in the claims on it.
OWNER = "runner.owner"
# Of a run that was taken for dead, and by whom.
REAPED = "runner.reaped"
# Of a sweep that began because there was none like it to go on with.
RESUMES = "runner.resume"
# When a run was last heard of, in milliseconds since 1970; a sweep's jobs have their parent's heartbeat.
HEARTBEAT = "runner.heartbeat"
BEAT_SECONDS = 60
STALE_SECONDS = 2 * BEAT_SECONDS
# A record may be a stranger's, and hold numbers of any length.
NUMBER = re.compile(r"[0-9]{1,14}")


@functools.cache
def process_tags() -> dict[str, str]:
    """Return the tags that say which process a run belongs to."""
    return {**_place(), PID: str(os.getpid()), STARTED: _started("self") or ""}


# A forked child is a process of its own, perhaps in a namespace of its own.
os.register_at_fork(after_in_child=process_tags.cache_clear)


def is_alive(tags: Mapping[str, str], silent_seconds: float = STALE_SECONDS) -> bool:
    """Return whether the process that a run's tags name lives: looked up here, or heard of lately from elsewhere."""
    return lives(tags) if is_here(tags) else silence(tags) < silent_seconds


def lives(tags: Mapping[str, str]) -> bool:
    """Return whether the process that a run's tags name lives here."""
    if not is_here(tags) or not NUMBER.fullmatch(tags.get(PID, "")):
        return False
    process = int(tags[PID])
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    started = _started(str(process))
    # Where the system does not tell, any process of that id may be the one.
    return started is None or tags.get(STARTED, "") in ("", started)


def silence(tags: Mapping[str, str]) -> float:
    """Return for how many seconds nothing was heard of a run."""
    beat = tags.get(HEARTBEAT, "0")
    return time.time() - (int(beat) / 1000 if NUMBER.fullmatch(beat) else 0)


def is_here(tags: Mapping[str, str]) -> bool:
    """Return whether the process that a run's tags name can be looked up here."""
    return all(tags.get(key) == value for key, value in _place().items())


def _place() -> dict[str, str]:
    """Return where the ids of processes mean what they mean here."""
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
    """Return when a process began, in the system's own count; None where it does not tell, `gone` of a zombie."""
    try:
        # In a namespace of processes that has no /proc of its own the ids there are those of another.
        if process != "self" and str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]

"""Ownership of sweeps: one process at a time may run a sweep, on any machine.

A claim is a numbered param of the parent run. MLflow does not let a param be changed: of several processes that write
the same number at once, to a database or a server, one succeeds, and the others read its claim.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.tracking.journal import now_ms
from runner.tracking.processes import HEARTBEAT, HOST, IDENTITY, NUMBER, OWNER, PID, is_alive, seconds_since_heartbeat

CLAIM = f"{OWNER}."
TRIES = 10
# A process that has looked for concurrent starts claims its sweep within this time.
SETTLE_SECONDS = 0.5


class OwnedError(Exception):
    """Another process owns the sweep."""


@dataclass(frozen=True)
class Claim:
    """One process's claim on a sweep.

    Attributes:
        owner: its id; empty for a new sweep, which needs no claim.
        since_ms: when it was made.
        process: the tags that identify the process.
    """

    number: int
    owner: str
    since_ms: int
    process: Mapping[str, str]

    @classmethod
    def read(cls, number: int, text: str) -> Self:
        """Return the claim in a param; an unreadable one has no owner."""
        try:
            process = {str(key): str(value) for key, value in json.loads(text).items()}
            since = process.pop("since_ms")
            if NUMBER.fullmatch(since):
                return cls(number, process.pop("owner"), int(since), process)
        except (ValueError, KeyError, AttributeError, RecursionError):
            pass
        return cls(number, "", 0, {})


def take(client: MlflowClient, run_id: str, claim: Mapping[str, Any]) -> None:
    """Claim a sweep, and mark it as running.

    Raises:
        OwnedError: another process owns it.
        MlflowException: the store does not take the claim.
    """
    for tried in range(1, TRIES + 1):
        run = client.get_run(run_id)
        last = _last(run)
        try:
            if last.owner != claim["owner"]:  # else it was written, but the answer was lost
                if _is_in_force(run, last):
                    raise OwnedError(_described(run, last))
                client.log_param(run_id, f"{CLAIM}{last.number + 1}", json.dumps(claim))
            process = {key: claim[key] for key in IDENTITY}
            tags = process | {OWNER: claim["owner"], HEARTBEAT: str(now_ms())}
            client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
            client.update_run(run_id, status="RUNNING")
            return
        except MlflowException:  # another process was faster, or the store is busy: read the owner again
            if tried == TRIES:
                raise
            time.sleep(0.1 * tried)


def begin_alone(client: MlflowClient, run_id: str, begun: Mapping[str, str]) -> None:
    """Claim a sweep that was started with these tags because there was none to resume.

    Processes that start the same sweep at the same time wait until each can see the others.

    Raises:
        OwnedError: another process was first.
    """
    time.sleep(SETTLE_SECONDS)
    experiment = client.get_run(run_id).info.experiment_id
    alike = f"tags.`runner.fingerprint` = '{begun['runner.fingerprint']}' and attributes.status = 'RUNNING'"
    found = client.search_runs([experiment], f"{alike} and tags.`runner.kind` = 'sweep'")
    for rival in (run for run in found if run.info.run_id != run_id):
        last = _last(rival)
        if _is_in_force(rival, last) and (last.number > 0 or rival.info.run_id < run_id):
            raise OwnedError(_described(rival, last))
    claim = {"owner": begun[OWNER], "since_ms": now_ms(), **{key: begun[key] for key in IDENTITY}}
    client.log_param(run_id, f"{CLAIM}1", json.dumps(claim))


def is_superseded(run: Run, begun: Mapping[str, str]) -> bool:
    """Return whether another process has claimed a sweep that was started with these tags."""
    last = _last(run)
    return last.number > 0 and last.owner != begun.get(OWNER)


def is_anothers(run: Run, begun: Mapping[str, str]) -> bool:
    """Return whether another process owns a sweep that was started with these tags."""
    if _last(run).number > 0:
        return is_superseded(run, begun)
    return any(run.data.tags.get(key, "") != begun.get(key, "") for key in IDENTITY)


def _last(run: Run) -> Claim:
    """Return the last claim on a sweep; without one, that of the process that started it."""
    tags = run.data.tags
    first = Claim(0, tags.get(OWNER, ""), run.info.start_time, tags)
    last = max([first, *_claims(run)], key=lambda claim: claim.number)
    if last.owner == tags.get(OWNER, ""):
        return replace(last, process=tags)
    # A claim made just now: the tags of the run are still those of the earlier owner.
    return replace(last, process=dict(last.process) | {HEARTBEAT: str(last.since_ms)})


def _claims(run: Run) -> Iterator[Claim]:
    for key, text in run.data.params.items():
        number = key.removeprefix(CLAIM)
        if key.startswith(CLAIM) and number.isdecimal():
            yield Claim.read(int(number), text)


def _is_in_force(run: Run, claim: Claim) -> bool:
    # A sweep that ended after its claim is free; one that was claimed just now may not be marked as running yet.
    has_ended = run.info.status != "RUNNING" and claim.since_ms <= (run.info.end_time or 0)
    if has_ended or (claim.number == 0 and run.info.status != "RUNNING"):
        return False
    return is_alive(claim.process)


def _described(run: Run, claim: Claim) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(claim.since_ms / 1000))
    process = f"process {claim.process.get(PID, '?')} on host {claim.process.get(HOST, '?')}"
    heard = max(0, round(seconds_since_heartbeat(claim.process)))
    return f"sweep {run.info.run_id} is still running: {process} owns it since {since}, last heartbeat {heard} s ago"

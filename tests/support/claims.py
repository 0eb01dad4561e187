"""Several processes that claim a sweep at once."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from mlflow.tracking import MlflowClient

from runner.recorder.ownership import OwnedError, take
from runner.tracking.processes import process_tags


def claim(owner: str, **process: str) -> dict[str, str]:
    here = process_tags() | {f"runner.{key}": value for key, value in process.items()}
    return {"owner": owner, "since_ms": str(int(time.time() * 1000)), **here}


def refusals(uri: str, run_id: str, claimants: int = 6) -> list[str]:
    """Let several processes claim a sweep at once, and return the errors of all but its owner."""

    def claims(number: int) -> str:
        try:
            take(MlflowClient(uri), run_id, claim(f"claimant {number}"))
        except OwnedError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(claimants) as pool:
        heard = sorted(pool.map(claims, range(claimants)))
    assert heard[0] == ""
    return heard[1:]


OWNED = f"process {os.getpid()} on host {socket.gethostname()} owns it since 2"

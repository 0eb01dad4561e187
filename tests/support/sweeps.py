"""What sweeps leave behind, wherever their jobs were executed."""

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Command
from tests.support.processes import PATIENCE
from tests.support.record import rows


def record_of(runner: Command) -> list[Any]:
    """Return the metrics and statuses of all jobs, without times."""
    times = "('seconds', 'steps_per_second', 'rank')"
    measured = f"where key not in {times} and name not like '%logspace%'"
    query = f"select name, status, key, step, value, is_nan from metrics join runs using (run_uuid) {measured}"
    return sorted(rows(runner, query), key=repr)


def assert_each_step_is_recorded_once(
    runner: Command, jobs: int, steps: int, ask: Callable[[str], list[Any]] | None = None
) -> None:
    """Check the record in a folder, or in the database that `ask` queries."""
    ask = ask or (lambda query: rows(runner, query))
    statuses = "select status, count(*) from runs where lifecycle_stage = 'active' group by status"
    assert ask(statuses) == [("FINISHED", jobs + 1)]
    names = "select count(distinct name) from runs where lifecycle_stage = 'active'"
    assert ask(names) == [(jobs + 1,)]
    each = (
        "select count(*) n, count(distinct step) d from metrics join runs using (run_uuid) "
        "where key = 'loss' and lifecycle_stage = 'active' group by run_uuid"
    )
    assert ask(f"select n, d, count(*) from ({each}) as each_run group by n, d") == [(steps, steps, jobs)]


def results_of(out: str) -> str:
    """Return the last lines of a sweep, without the place of the record."""
    return out[out.index("ended      ") : out.index("recorded ")]


def assert_interrupted_within_seconds(process: "subprocess.Popen[str]") -> None:
    """Send Ctrl-C to a sweep, and check that it ends in order."""
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - since < 30
    assert process.returncode == 130
    assert err.splitlines()[0] == "error: interrupted"
    assert "Traceback" not in err

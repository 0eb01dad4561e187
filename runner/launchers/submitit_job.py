"""What a job of submitit executes on its node: one shard, whose updates it appends to a file."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.launchers.elsewhere import Died, Ended
from runner.launchers.nodes import check_this_node
from runner.launchers.shard import Shard
from runner.launchers.shared_folder import append, end_with_driver, exit_on
from runner.messages.errors import RecordingError, UserError, one_line

# What numbers of threads are read from; a job gets them from the driver's environment otherwise.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SIGNALS = {
    signal.SIGTERM: "cancelled, or for a job of a higher priority",
    signal.SIGUSR2: "at its time limit (parameters.timeout_min), or for a job of a higher priority",
}


@dataclass(frozen=True)
class Order:
    """A shard to execute.

    Attributes:
        shard: its runs.
        targets: the users' functions that they need.
        expected: what the node must have, as `nodes.description` returns it.
        working_directory: of the driver; users' modules are imported from it.
        folder: holds the driver's heartbeat.
        updates: the file to append to; the driver has created it.
        cpus: that the job has; None where torch is to find out.
    """

    shard: Shard
    targets: tuple[str, ...]
    expected: Mapping[str, str]
    working_directory: str
    folder: Path
    updates: Path
    cpus: int | None


@dataclass(frozen=True)
class Unfit:
    """The node lacks what the runs need."""

    reason: str


def execute(order: Order) -> None:
    """Execute a shard, and append its updates to a file, then `Ended`, `Died` or `Unfit`."""
    exit_on(SIGNALS)  # submitit would start the same shard again, whose steps are recorded already
    if order.updates.stat().st_size > 0:
        raise RuntimeError("the job was started a second time, after its node had failed")
    end_with_driver(order.folder, order.updates)
    os.chdir(order.working_directory)
    _set_threads(order.cpus)
    append(order.updates, _executed(order))


def _executed(order: Order) -> Ended | Died | Unfit:
    from runner.launchers.worker import updates_of

    try:
        check_this_node(order.expected, order.targets, None)
    except UserError as error:
        return Unfit(one_line(error))
    try:
        for update in updates_of(order.shard):
            append(order.updates, update)
    except Exception as error:  # of the runner, or of a user's function
        return Died(one_line(error), is_final=not isinstance(error, UserError | RecordingError))
    return Ended()


def _set_threads(cpus: int | None) -> None:
    """Set how many threads torch uses, which it reads when it is imported."""
    for name in THREADS:
        os.environ.pop(name, None)
    if cpus is not None:
        os.environ["OMP_NUM_THREADS"] = str(cpus)

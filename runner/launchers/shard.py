"""A shard: the runs of one batch as plain data, which can be pickled and executed by any process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.schema import Config, Tracking
from runner.tracking.inheritance import Inherited
from runner.tracking.journal import Known

NOT_RUN = "fail_fast=true: another job had failed"


@dataclass(frozen=True)
class ShardRun:
    """A run of a shard.

    Attributes:
        config: its config, with the id of the parent run.
        run: the runner's id of the run.
        tags: recorded in addition to the tags that every run has.
        recorded: the last step already recorded; -1 for a new run.
        keeps_weights: whether its weights are recorded as a file.
    """

    config: Config
    run: str
    tags: Mapping[str, str] = field(default_factory=dict)
    recorded: int = -1
    keeps_weights: bool = False


@dataclass(frozen=True)
class Place:
    """Where a node records its shard.

    Attributes:
        sweep: the parent run, which the driver records.
        tracking: the store, with its password.
        environment: variables by which MLflow is let in.
    """

    sweep: Known
    tracking: Tracking = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


# The status of a run that waits at a rung; it will be executed again from its start.
PAUSED = "PAUSED"


@dataclass(frozen=True)
class Until:
    """Up to which rung a shard is executed.

    Attributes:
        step: of the rung.
        prunes: whether the runs that come so far end there; else they are reported as PAUSED, and their end is not
            recorded.
    """

    step: int
    prunes: bool


@dataclass(frozen=True)
class Shard:
    """Runs that can be executed as one batch.

    Attributes:
        fail_fast: whether the first failure ends the shard.
        inherited: what the record of the parent run leaves to its runs; None if they record everything themselves.
        place: where the node records them; None if they are recorded by the driver.
        until: up to which rung they are executed; None for all their steps.
    """

    runs: tuple[ShardRun, ...]
    fail_fast: bool = False
    inherited: Inherited | None = None
    place: Place | None = None
    until: Until | None = None


@dataclass(frozen=True)
class RunReport:
    """How a run of a shard ended.

    Attributes:
        run: the runner's id of the run.
        status: COMPLETED, STOPPED, DIVERGED, FAILED, PRUNED, PAUSED, or NOT_RUN after a failure with
            `fail_fast`.
        metrics: the final results, under their names in MLflow.
        reason: why it failed, or which rule stopped it.
        still_since: the last step that changed its weight, where the weight stopped changing away from a known minimum.
        remark: a further remark for the user.
        weights: NumPy vectors by name, where only the best run of the sweep keeps its weights.
    """

    run: str
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    still_since: int | None = None
    remark: str | None = None
    weights: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RungReport:
    """Runs of a shard have made the steps up to a rung, and wait to be told which of them are pruned.

    Attributes:
        step: of the rung.
        metrics: the results so far of the runs that have not ended, under their names in MLflow, by the runner's id.
    """

    step: int
    metrics: Mapping[str, Mapping[str, float]]

"""Means and spreads over the seeds of a sweep: of each combination that ran with several seeds."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.config.direction import Direction
from runner.sweeps.outcome import JobResult, ranked

SEED = "seed"
# The file on the parent run that holds them; MLflow shows it as a table.
SEEDS = "seeds.csv"


@dataclass(frozen=True)
class Spread:
    """How one combination ended with several seeds.

    Attributes:
        name: what varied but for the seed, as a label.
        varied: the same as values by key, as written.
        losses: the last losses of the seeds that have a rank, the best first.
        others: how many seeds have none: they diverged, or were pruned.
    """

    name: str
    varied: Mapping[str, str]
    direction: Direction
    losses: Sequence[float]
    others: int

    @property
    def mean(self) -> float | None:
        """The mean of the losses; None where no seed has one."""
        return statistics.mean(self.losses) if self.losses else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the losses; None for fewer than two."""
        return statistics.stdev(self.losses) if len(self.losses) > 1 else None

    @property
    def sort_key(self) -> tuple[bool, int, float, str]:
        """A sort key that puts the best combination first; those with diverged seeds come last."""
        mean = math.inf if self.mean is None else self.direction.sort_key(self.mean)
        return self.direction is Direction.UP, self.others, mean, self.name


def spreads_of(results: Sequence[JobResult]) -> list[Spread]:
    """Return the spread of each combination that ran with several seeds, the best first."""
    by_name: dict[str, list[JobResult]] = {}
    for one in results:
        if one.status != "FAILED" and any(text.startswith(f"{SEED}=") for text in one.job.varying):
            by_name.setdefault(one.job.name_but_for_seed or "all", []).append(one)
    spreads = (_spread_of(name, seeds) for name, seeds in by_name.items() if len(seeds) > 1)
    return sorted(spreads, key=lambda spread: spread.sort_key)


def _spread_of(name: str, seeds: Sequence[JobResult]) -> Spread:
    losses = [one.loss for one in ranked(seeds) if one.loss is not None]
    job = seeds[0].job
    varied = {key: value for key, value in job.varied.items() if key != SEED}
    return Spread(name, varied, job.config.direction, losses, len(seeds) - len(losses))


def seeds_csv(spreads: Sequence[Spread]) -> bytes:
    """Return spreads as a table: what varied, mean and standard deviation of the last loss, its extremes, seeds."""
    keys = list(dict.fromkeys(key for spread in spreads for key in spread.varied))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*keys, "mean", "std", "lowest", "highest", "seeds", "without_rank"])
    for one in spreads:
        extremes = (min(one.losses), max(one.losses)) if one.losses else (None, None)
        values = (one.varied.get(key) for key in keys)
        table.writerow([*values, one.mean, one.deviation, *extremes, len(one.losses) + one.others, one.others])
    return text.getvalue().encode()

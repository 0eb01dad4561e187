"""Seeds without effect: jobs of a sweep that differ only in their seed, although nothing in them is random."""

from collections.abc import Sequence

from runner.config.schema import Config
from runner.messages.printing import warn
from runner.sweeps.fingerprint import NOT_OF_THE_RESULT
from runner.sweeps.job import Job

# Objectives that start from random weights unless `initial_weight` is given.
RANDOM_STARTS = ("mlp", "cnn")
# Optimizers that draw random vectors.
RANDOM_RULES = ("sophia",)


def uses_seed(config: Config) -> bool:
    """Return whether a run may depend on its seed; a user's function may draw random numbers."""
    objective = config.objective
    return (
        config.gradient_noise > 0
        or config.initial_weight == "random"
        or (config.initial_weight is None and objective.name in RANDOM_STARTS)
        or objective.batch_size is not None
        or config.optimizer.name in RANDOM_RULES
        or bool(config.targets)
    )


def warn_of_unused_seeds(jobs: Sequence[Job]) -> None:
    """Print a warning if some jobs differ only in a seed without effect."""
    sentence = None if jobs[0].config.quiet else unused_seeds(jobs)
    if sentence is not None:
        warn(sentence)


def unused_seeds(jobs: Sequence[Job]) -> str | None:
    """Return a sentence that counts the jobs whose seed has no effect; None if there are none."""
    if len({job.config.seed for job in jobs}) < 2:
        return None
    by_name: dict[str, list[Job]] = {}
    for job in jobs:
        by_name.setdefault(job.name_but_for_seed, []).append(job)
    unused = [group for group in by_name.values() if len(group) > 1 and _have_equal_results(group)]
    if not unused:
        return None
    seeds = list(dict.fromkeys(job.config.seed for group in unused for job in group))
    given = ",".join(map(str, seeds[:3])) + (",..." if len(seeds) > 3 else "")
    number = sum(map(len, unused))
    which = f"the {number:,} jobs" if number == len(jobs) else f"{number:,} of {len(jobs):,} jobs"
    return (
        f"seed={given}: has no effect in {which}, which use no random numbers; "
        "gradient_noise, initial_weight=random and objective.batch_size do"
    )


def _have_equal_results(jobs: Sequence[Job]) -> bool:
    first, second = (_without_seed(job.config) for job in jobs[:2])
    return first == second and not uses_seed(jobs[0].config)


def _without_seed(config: Config) -> dict[str, object]:
    return {key: value for key, value in vars(config).items() if key not in ("seed", *NOT_OF_THE_RESULT)}

"""Seeds that change nothing: jobs of a sweep that differ in their seed alone, with nothing random in them."""

from collections.abc import Sequence

from runner.config.schema import Config
from runner.messages.printing import warn
from runner.sweeps.fingerprint import NOT_OF_THE_RESULT
from runner.sweeps.job import Job

# Those that start from random weights unless they are given.
RANDOM_STARTS = ("mlp",)


def uses_seed(config: Config) -> bool:
    """Return whether anything in a run is random, as far as its config tells; a stranger's function may draw, too."""
    objective = config.objective
    return (
        config.gradient_noise > 0
        or config.initial_weight == "random"
        or (config.initial_weight is None and objective.name in RANDOM_STARTS)
        or objective.batch_size is not None
        or objective.is_callable
    )


def tell_idle_seeds(jobs: Sequence[Job]) -> None:
    """Warn of seeds that change nothing, before any job starts."""
    sentence = None if jobs[0].config.quiet else idle_seeds(jobs)
    if sentence is not None:
        warn(sentence)


def idle_seeds(jobs: Sequence[Job]) -> str | None:
    """Return the sentence that says of how many jobs the seed changes nothing, None where it does for all."""
    if len({job.config.seed for job in jobs}) < 2:
        return None
    by_name: dict[str, list[Job]] = {}
    for job in jobs:
        by_name.setdefault(job.name_but_for_seed, []).append(job)
    idle = [group for group in by_name.values() if len(group) > 1 and _are_alike(group)]
    if not idle:
        return None
    seeds = list(dict.fromkeys(job.config.seed for group in idle for job in group))
    given = ",".join(map(str, seeds[:3])) + (",..." if len(seeds) > 3 else "")
    number = sum(map(len, idle))
    which = f"the {number:,} jobs" if number == len(jobs) else f"{number:,} of {len(jobs):,} jobs"
    return (
        f"seed={given}: gives the same numbers in {which}, in which nothing is random; "
        "gradient_noise, initial_weight=random and objective.batch_size are"
    )


def _are_alike(jobs: Sequence[Job]) -> bool:
    first, second = (_but_for_seed(job.config) for job in jobs[:2])
    return first == second and not uses_seed(jobs[0].config)


def _but_for_seed(config: Config) -> dict[str, object]:
    return {key: value for key, value in vars(config).items() if key not in ("seed", *NOT_OF_THE_RESULT)}

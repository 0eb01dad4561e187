"""What the terminal shows at the end of a sweep: totals, the best jobs, and means and spreads over seeds."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runner.config.schema import Config
from runner.console.recorded import print_recorded
from runner.messages.printing import print_lines, warn
from runner.sweeps.labels import ENOUGH, FEWEST, digits_apart
from runner.sweeps.outcome import DISTANCE, JobResult, counts, divergence_sentence, ranks
from runner.sweeps.seeds import Spread, spreads_of

if TYPE_CHECKING:
    from runner.tracking.tracker import Recorded

BEST = 10


def print_results(results: Sequence[JobResult], config: Config, recorded: "Recorded | None") -> None:
    """Print the number of jobs by status, the best jobs, and where the sweep is recorded."""
    diverged = [one.job.name for one in results if one.has_diverged]
    if config.quiet and diverged and not config.fail_on_divergence:
        warn(divergence_sentence(diverged, len(results)))
    if not config.quiet:
        print_lines(totals(results), *_best_lines(results), *_spread_lines(results))
    print_recorded(recorded, config, is_sweep=True)


def totals(results: Sequence[JobResult]) -> str:
    """Return the line with the number of jobs by status."""
    number = {key.removeprefix("jobs_"): int(count) for key, count in counts(results).items()}
    skipped, failed = number["skipped"], number["failed"]
    not_run, pruned = number.get("not_run", 0), number.get("pruned", 0)
    ran = len(results) - skipped - not_run
    still = [one.status == "SKIPPED" for one in results if one.still_since is not None]
    number["stood still"] = still.count(False)
    how = ", ".join(f"{number[key]:,} {key}" for key in ("stopped", "diverged", "stood still") if number[key])
    finished = f"{ran - failed - pruned:,} finished" + (f" ({how})" if how else "")
    jobs = f"{len(results):,} job{'s' if len(results) != 1 else ''}"
    earlier = sum(one.has_diverged and one.status == "SKIPPED" for one in results)
    of_these = {"diverged": earlier, "stood still": still.count(True)}
    then = ", ".join(f"{many:,} {what}" for what, many in of_these.items() if many)
    before = f"{skipped:,} skipped" + (f" ({then})" if then else "")
    ended = finished + (f", {pruned:,} pruned" if pruned else "")
    return f"ended      {jobs} asked for, {before}, {ran:,} run: {ended}, {failed:,} failed" + (
        f"; {not_run:,} not run" if not_run else ""
    )


def _best_lines(results: Sequence[JobResult]) -> Iterator[str]:
    if len(results) < 2:
        return
    best = {one: rank for one, rank in ranks(results).items() if rank <= BEST}
    loss_digits = digits_apart((one.loss for one in best if one.loss is not None), ENOUGH)
    distances = {one: one.metrics[DISTANCE] for one in best if DISTANCE in one.metrics}
    digits = digits_apart(distances.values(), FEWEST)
    is_tied = len({one.loss for one in best}) < len(best)
    width = max((len(one.job.name) for one in best), default=0)
    for one, rank in best.items():
        distance = f"  distance {distances[one]:.{digits}g}" if one in distances else ""
        reached = f"  at step {one.steps_to_loss:,.0f}" if is_tied else ""
        first = "best" if rank == 1 else ""
        still = "" if one.still_since is None else f"  still since step {one.still_since:,}"
        yield f"{first:<6}{rank:>3}  {one.job.name:<{width}}  loss {one.loss:.{loss_digits}g}{reached}{distance}{still}"


def _spread_lines(results: Sequence[JobResult]) -> Iterator[str]:
    """Yield the mean and spread over seeds of the best combinations that ran with several seeds."""
    spreads = spreads_of(results)
    width = max((len(spread.name) for spread in spreads), default=0)
    means = [spread.mean for spread in spreads[:BEST] if spread.mean is not None]
    digits = digits_apart(means, ENOUGH)
    for index, spread in enumerate(spreads[:BEST]):
        yield f"{'seeds' if index == 0 else '':<11}{spread.name:<{width}}  {_text_of(spread, digits)}"


def _text_of(spread: Spread, digits: int) -> str:
    if spread.mean is None:
        return f"all {spread.others} seeds diverged"
    width = "" if spread.deviation is None else f" +- {spread.deviation:.3g}"
    many = len(spread.losses)
    number = f"{many} seed{'s' if many > 1 else ''}" + (f", {spread.others} diverged" if spread.others else "")
    return f"loss {spread.mean:.{digits}g}{width} over {number}"

"""What MLflow's UI shows of a sweep: the note of its parent run and of its experiment, and the saved views."""

from collections.abc import Iterator, Sequence

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.messages.redaction import shown_override, shown_tree
from runner.report import drawing, notes, views
from runner.sweeps.job import Job, by_key
from runner.sweeps.labels import ENOUGH, FEWEST, digits_apart
from runner.sweeps.outcome import DISTANCE, JobResult, ranks
from runner.sweeps.seeds import Spread
from runner.sweeps.summary import totals
from runner.tracking.journal import EXPERIMENT, Shown, now_ms, reference
from runner.tracking.provenance import DESCRIPTION, described, params_of

LOSS = "final/loss"
COLUMNS = (LOSS, "final/loss_error", DISTANCE, "best/step", "steps_done")


def shown_of_sweep(
    config: Config,
    texts: Sequence[str],
    run: str,
    results: Sequence[JobResult],
    spreads: Sequence[Spread],
    sentences: Sequence[str] = (),
) -> Shown:
    """Return what the UI shows of a sweep that has ended, given its config, its overrides and the runner's id of it."""
    note = notes.SweepNote(
        reference(run),
        EXPERIMENT,
        f"{totals(results).removeprefix('ended').strip()}.",
        list(_best(results)),
        _means(spreads),
        notes.command_of(texts, is_sweep=True),
        drawing(config) is not None,
        sentences,
    )
    experiment_tags = {
        DESCRIPTION: notes.note_of_experiment(note),
        f"{views.TAG}{views.LIST}": views.view_of_list(now_ms()),
        f"{views.TAG}{views.key_of_sweep(reference(run))}": views.view_of_sweep(_view(config, texts, run, results)),
    }
    return Shown(run, described(config, notes.note_of_sweep(note)), experiment_tags)


def _best(results: Sequence[JobResult]) -> Iterator[notes.Best]:
    """Yield the best jobs; none where some minimise and others maximise."""
    if len({one.job.config.direction for one in results}) > 1:
        return
    best = [one for one, rank in ranks(results).items() if rank <= notes.ROWS]
    losses = digits_apart((one.loss for one in best if one.loss is not None), ENOUGH)
    distances = digits_apart((one.metrics[DISTANCE] for one in best if DISTANCE in one.metrics), FEWEST)
    for one in best:
        found = {"loss": f"{one.loss:.{losses}g}"}
        if DISTANCE in one.metrics:
            found["distance"] = f"{one.metrics[DISTANCE]:.{distances}g}"
        found["at step"] = f"{one.steps_to_loss:,.0f}"
        yield notes.Best(reference(one.run), _labels(one.job), found)


def _labels(job: Job) -> dict[str, str]:
    return by_key(map(shown_override, job.labels))


def _means(spreads: Sequence[Spread]) -> list[list[str]]:
    """Return the means over seeds as rows, with the names of the columns first; empty without seeds."""
    rows = []
    for one in spreads[: notes.ROWS]:
        mean = "" if one.mean is None else f"{one.mean:.6g}"
        deviation = "" if one.deviation is None else f"{one.deviation:.3g}"
        rows.append([one.name, mean, deviation, f"{len(one.losses) + one.others}", f"{one.others}"])
    return [["setting", "mean loss", "deviation", "seeds", "diverged"], *rows] if rows else []


def _view(config: Config, texts: Sequence[str], run: str, results: Sequence[JobResult]) -> views.SweepView:
    ranked = ranks(results)
    losses = [one.loss for one in ranked if one.loss is not None]
    keys = dict.fromkeys(key for one in results for key in one.job.varied)
    params = {name: None for job in _kinds(results) for name in params_of(job.config)}
    return views.SweepView(
        name=shown_tree(config.name) or " ".join(map(shown_override, texts)),
        parent=reference(run),
        varied=views.params_varied(keys, params),
        results=[key for key in COLUMNS if any(key in one.metrics for one in ranked)],
        has_ranks=bool(ranked),
        is_upward=config.direction is Direction.UP,
        is_positive=min(losses, default=1) > 0,
        at_ms=now_ms(),
    )


def _kinds(results: Sequence[JobResult]) -> list[Job]:
    """Return a job for each choice of the groups, which have different params."""
    kinds = {(one.job.config.optimizer.name, one.job.config.schedule.name): one.job for one in results}
    return list(kinds.values())

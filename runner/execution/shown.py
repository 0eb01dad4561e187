"""What MLflow's UI shows of a single run: its note, that of its experiment, and the view of the experiment's runs."""

from runner.config.schema import Config
from runner.report import drawing, notes, views
from runner.tracking.journal import EXPERIMENT, End, Shown, now_ms, reference
from runner.tracking.provenance import DESCRIPTION, described

RESULTS = ("final/loss", "final/distance", "final/gradient_norm")


def shown_of_run(config: Config, run: str, command: str, end: End) -> Shown:
    """Return what the UI shows of a run, given by the runner's id, that has ended."""
    sentence = f"{config.objective.name} by {config.optimizer.name}, {end.step:,} steps: {end.tags['runner.outcome']}"
    results = [f"{key.removeprefix('final/')} {end.results[key]:.6g}" for key in RESULTS if key in end.results]
    said = f"{sentence}; {', '.join(results)}." if results else f"{sentence}."
    if "diverged_at_step" in end.tags:
        said = f"{end.tags[DESCRIPTION].splitlines()[0]} {said}"
    note = notes.note_of_run(reference(run), EXPERIMENT, said, command, drawing(config) is not None)
    listed = {f"{views.TAG}{views.LIST}": views.view_of_list(now_ms())}
    return Shown(run, described(config, note), listed)

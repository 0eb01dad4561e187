"""Running a recorded run again as a new run, which is recorded with a tag that names the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlflow.tracking import MlflowClient

from runner.config.schema import Config, Tracking
from runner.execution.job import Done, record
from runner.messages.redaction import HIDDEN
from runner.reading.collection import Runs
from runner.rerun.composing import compose_again
from runner.rerun.running import KEPT_IN_MEMORY, Kept
from runner.rerun.verification import Recipe, Verdict, numbers_of, records_of
from runner.rerun.weights import RecordedWeights

# A tag: MLflow's id of the run that this one repeats.
RERUN_OF = "runner.rerun_of"


@dataclass(frozen=True)
class NewRun:
    """A recorded run that was run again, and how it compares with the first.

    Attributes:
        config: of the new run.
        done: the new run.
    """

    config: Config
    done: Done
    verdict: Verdict


def record_again(found: Runs, client: MlflowClient, uri: str, overrides: Sequence[str]) -> NewRun:
    """Run the only run of a collection again, with overrides, and record it as a new one in the same experiment.

    Raises:
        UserError: it cannot be composed, or does not fit this machine; nothing was recorded.
        RecordingError: the run ended normally, but could not be recorded completely.
    """
    (run,), (recorded,) = found, records_of(found, client)
    experiment = client.get_experiment(run.row.experiment).name
    composed = compose_again(
        recorded, overrides, _tracking(recorded.tree["tracking"], uri, experiment), run.sweep is not None
    )
    if composed.config.tracking.name == "off":
        composed = replace(composed, config=replace(composed.config, tracking=KEPT_IN_MEMORY))
    recipe, kept = Recipe(run, recorded, composed), Kept()
    weights = RecordedWeights(client, found).of(run, recorded.tree.get("keep_weights"))
    numbers = numbers_of(found, [0])[0] | dict(weights)
    done = record(composed.config, None, composed.overrides, {RERUN_OF: run.id}, kept)
    kept.join()
    (rerun,) = kept.runs.values()
    return NewRun(composed.config, done, recipe.verdict(numbers, rerun))


def _tracking(recorded: dict[str, object], uri: str, experiment: str) -> Tracking:
    """Return the settings to record in a store, which is perhaps at another address than when it had the first run."""
    folder = recorded.get("artifacts")
    own = folder if isinstance(folder, str) and HIDDEN not in folder else "outputs/artifacts"
    is_server = uri.startswith("http")
    return Tracking(
        name="server" if is_server else "sqlite",
        uri=uri,
        experiment=experiment,
        artifacts=None if is_server else own,
        offline="error",
    )

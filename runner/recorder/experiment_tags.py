"""Tags of an experiment that MLflow's UI shows: its description, and saved views."""

import contextlib
import json
import re
import zlib
from collections.abc import Mapping

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.tracking.provenance import DESCRIPTION

VIEW_OF_SWEEP = re.compile(r"mlflow\.sharedViewState\.sweep-[0-9a-f]+")
# Older views of sweeps are removed: MLflow reads all tags of an experiment to show its runs.
MOST_VIEWS = 50
# At the end of a description of ours; the UI does not show it. A user's own description is left alone.
MARK = re.compile(r"\n\n<!-- runner ([0-9a-f]{8}) -->$")


def marked(text: str) -> str:
    """Return a description with the mark by which it is known as ours, as long as nobody changes it."""
    return f"{text}\n\n<!-- runner {zlib.crc32(text.encode()):08x} -->"


def is_ours(text: str) -> bool:
    """Return whether a description is as `marked` has made it."""
    found = MARK.search(text)
    return found is not None and marked(text[: found.start()]) == text


def write_experiment_tags(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> None:
    """Set tags of an experiment; a description that a user wrote stays, and the oldest views of sweeps are removed.

    What the store refuses is left out: the runs are recorded without it.
    """
    with contextlib.suppress(MlflowException):
        known = client.get_experiment(experiment).tags
        new = {key: marked(value) if key == DESCRIPTION else value for key, value in tags.items()}
        if DESCRIPTION in known and not is_ours(known[DESCRIPTION]):
            new.pop(DESCRIPTION, None)
        for key, value in new.items():
            if _content(known.get(key, "")) != _content(value):
                client.set_experiment_tag(experiment, key, value)
        views = {key: _made_ms(value) for key, value in (known | new).items() if VIEW_OF_SWEEP.fullmatch(key)}
        for key in sorted(views, key=lambda key: -views[key])[MOST_VIEWS:]:
            client.delete_experiment_tag(experiment, key)


def _envelope(value: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, dict):
            return found
    return {}


def _content(value: str) -> object:
    """Return a view without its times, which do not make it another; other values as they are."""
    return _envelope(value).get("state", value)


def _made_ms(value: str) -> float:
    made = _envelope(value).get("createdAt")
    return made if isinstance(made, int | float) else 0

"""Finding recorded runs for the commands that take ids: the store, and runs by ids or prefixes of ids."""

import re
from collections.abc import Sequence

from mlflow.entities import Experiment as Experiment
from mlflow.entities import Run as Run
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException as MlflowException

from runner.messages.errors import UserError
from runner.messages.redaction import shown_text
from runner.recorder.opening import open_store, prepared
from runner.recorder.reading import pages
from runner.recorder.store import Store

ID = re.compile(r"[0-9a-f]{4,32}")


def existing_store(uri: str, setting: str = "--uri ") -> Store:
    """Open a store that has runs.

    Args:
        uri: of the store.
        setting: how an error names the setting that the URI is from.

    Raises:
        UserError: there is no database.
        StoreError: it cannot be opened.
    """
    if not prepared({"uri": uri}):
        raise UserError(f"{setting}{shown_text(uri)}: no database there, expected the one with the runs")
    return open_store({"uri": uri, "artifacts": "outputs/artifacts", "again": False})


def find_runs(store: Store, texts: Sequence[str]) -> list[Run]:
    """Return the runs with these ids, or prefixes of ids; those in MLflow's trash, too.

    Raises:
        UserError: with a line for each that matches no run, or several.
    """
    experiments = [found.experiment_id for found in store.client.search_experiments(view_type=ViewType.ALL)]
    runs, mistakes = [], []
    for text in dict.fromkeys(texts):
        is_known = ID.fullmatch(text) and experiments
        found = list(pages(store.client, experiments, f"run_id LIKE '{text}%'", ViewType.ALL)) if is_known else []
        if not found:
            mistakes.append(f"{text}: no such run, expected the id of a run or a sweep, or its first characters")
        elif len(found) > 1:
            mistakes.append(f"{text}: {len(found):,} runs have ids that start with it, expected more characters")
        else:
            runs.append(found[0])
    if mistakes:
        raise UserError(*mistakes)
    return runs

"""Fetching the weights that a recorded run has saved, for a run that starts from them."""

import tempfile
from pathlib import Path

from runner.messages.errors import RunnerError, UserError
from runner.recorder.finding import existing_store, find_runs
from runner.recorder.reading_back import read_artifact


def fetch_weights(uri: str, run: str, artifact: str, path: Path) -> None:
    """Write the saved weights of a run, by its id or the first characters of it, to a file.

    Raises:
        UserError: there is no such run, or it has saved none.
    """
    given = f"initial_weight=runs:{run}"
    try:
        store = existing_store(uri, "tracking.uri=")
        (found,) = find_runs(store, [run])
        content = read_artifact(store.client, found.info.run_id, artifact)
    except RunnerError as error:
        raise UserError(*(f"{given}: {line.removeprefix(f'{run}: ')}" for line in error.lines)) from None
    if content is None:
        raise UserError(f"{given}: has no {artifact}, expected a run with save_weights=true")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)

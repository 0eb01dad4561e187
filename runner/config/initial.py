"""Starts from saved weights: a safetensors file, or the weights of a recorded run, as `runs:ID`; imports no torch."""

import re
from pathlib import Path

RUNS = "runs:"
SUFFIX = ".safetensors"
# Where the weights of recorded runs are kept for the processes of a command.
FETCHED = Path("outputs") / "weights"
RUN = re.compile(rf"{RUNS}[0-9a-f]{{4,32}}")


def is_saved(initial_weight: object) -> bool:
    """Return whether a value of `initial_weight` names saved weights."""
    return isinstance(initial_weight, str) and (
        RUN.fullmatch(initial_weight) is not None or initial_weight.endswith(SUFFIX)
    )


def path_of(source: str) -> Path:
    """Return the file with the weights: the one that is named, or the one that those of a run are fetched to."""
    if source.startswith(RUNS):
        return FETCHED / f"{source.removeprefix(RUNS)}{SUFFIX}"
    return Path(source).expanduser()

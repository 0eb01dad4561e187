"""Timing whole processes, in turns, so that changes in the machine's load affect all equally."""

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

IMPORTS = ["-c", "import torch, hydra, mlflow"]
SINGLE = ["-m", "runner", "steps=100", "quiet=true"]


def seconds(arguments: Sequence[str], folder: str) -> float:
    """Return how long Python takes with these arguments, in a working directory."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def medians(commands: Mapping[str, Sequence[str]], folder: str, times: int) -> dict[str, float]:
    """Return the median seconds of each command, by its name; a first single run leaves a database to work on."""
    seconds(SINGLE, folder)
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            took[name].append(seconds(command, folder))
    return {name: statistics.median(each) for name, each in took.items()}

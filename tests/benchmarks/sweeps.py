"""Sweeps beside a single run and beside bare imports, whole processes: `python -m tests.benchmarks.sweeps`."""

import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = ["-c", "import torch, hydra, mlflow"]
SINGLE = ["-m", "runner", "steps=100", "quiet=true"]
SWEEPS = {
    "100 jobs x 100 steps": ["lr=logspace(-4,-1,100)", "steps=100", "log_every=1"],
    "1,000 jobs x 1,000 steps": ["lr=logspace(-4,0,1000)", "steps=1000", "log_every=10"],
    "10,000 jobs x 1,000 steps": ["lr=logspace(-4,0,10000)", "steps=1000", "log_every=100"],
}
TIMES = 3


def seconds(arguments: list[str], folder: str) -> float:
    """Return how long Python takes with these arguments, in a folder that has a database."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians, measured in turns so that all see the same moods of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        seconds(SINGLE, folder)
        commands = {"imports": IMPORTS, "single run": SINGLE}
        commands |= {name: ["-m", "runner", "-m", "quiet=true", *sweep] for name, sweep in SWEEPS.items()}
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(TIMES):
            for name, command in commands.items():
                took[name].append(seconds(command, folder))
    medians = {name: statistics.median(times) for name, times in took.items()}
    for name, median in medians.items():
        against = f"{median / medians['single run']:.2f} single runs, {median / medians['imports']:.2f} imports"
        print(f"{name:<26} {median:6.2f} s   {against}")


if __name__ == "__main__":
    main()

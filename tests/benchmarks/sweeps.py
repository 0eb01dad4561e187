"""Sweeps compared with a single run and bare imports, whole processes: `python -m tests.benchmarks.sweeps`."""

import tempfile

from tests.benchmarks.timing import IMPORTS, SINGLE, medians

SWEEPS = {
    "100 jobs x 100 steps": ["lr=logspace(-4,-1,100)", "steps=100", "log_every=1"],
    "1,000 jobs x 1,000 steps, every 10th": ["lr=logspace(-4,0,1000)", "steps=1000", "log_every=10"],
    "1,000 jobs x 1,000 steps, every one": ["lr=logspace(-4,0,1000)", "steps=1000", "log_every=1"],
    "10,000 jobs x 1,000 steps, every 100th": ["lr=logspace(-4,0,10000)", "steps=1000", "log_every=100"],
}
TIMES = 3


def main() -> None:
    """Print the medians and their ratios."""
    commands = {"imports": IMPORTS, "single run": SINGLE}
    commands |= {name: ["-m", "runner", "-m", "quiet=true", *sweep] for name, sweep in SWEEPS.items()}
    with tempfile.TemporaryDirectory() as folder:
        took = medians(commands, folder, TIMES)
    for name, median in took.items():
        against = f"{median / took['single run']:.2f} single runs, {median / took['imports']:.2f} imports"
        print(f"{name:<38} {median:6.2f} s   {against}")


if __name__ == "__main__":
    main()

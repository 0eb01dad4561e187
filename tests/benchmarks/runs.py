"""Single runs compared with bare imports and the bare loop, whole processes: `python -m tests.benchmarks.runs`."""

import tempfile

from tests.benchmarks.timing import IMPORTS, medians

# The four moves as a notebook would write them.
LOOP = """
import torch
w = torch.tensor(10.0, requires_grad=True)
for _ in range(100_000):
    loss = w**2 + 20
    w.grad = None
    loss.backward()
    with torch.no_grad():
        w -= 1e-5 * w.grad
"""
LONG = ["-m", "runner", "steps=100000", "lr=1e-5", "quiet=true"]
COMMANDS = {
    "imports": IMPORTS,
    "import torch": ["-c", "import torch"],
    "bare loop of 100,000": ["-c", LOOP],
    "--help": ["-m", "runner", "--help"],
    "tracked, 1,000 steps": ["-m", "runner", "steps=1000", "quiet=true"],
    "tracked, 100,000 steps, every 100th": [*LONG, "log_every=100"],
    "tracked, 100,000 steps, every one": [*LONG, "log_every=1"],
    "untracked, 100,000 steps": [*LONG, "log_every=1", "tracking=off"],
}
TIMES = 5


def main() -> None:
    """Print the medians and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        took = medians(COMMANDS, folder, TIMES)
    for name, median in took.items():
        print(f"{name:<36} {median:6.2f} s   {median / took['imports']:.2f} imports")
    loop = took["bare loop of 100,000"] - took["import torch"] + took["imports"]
    print(f"every 100th: {took['tracked, 100,000 steps, every 100th'] / loop:.2f} times the bare loop and the imports")
    untracked = took["untracked, 100,000 steps"] + took["imports"]
    print(f"every one: {took['tracked, 100,000 steps, every one'] / untracked:.2f} times untracked and the imports")


if __name__ == "__main__":
    main()

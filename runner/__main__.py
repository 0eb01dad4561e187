"""The command line: `python -m runner lr=0.05 steps=1000`."""

from runner.command_line import leave

if __name__ == "__main__":
    leave()

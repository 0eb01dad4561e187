"""The command line: `python -m runner lr=0.05 steps=1000`."""

from runner import interruption

if __name__ == "__main__":
    interruption.leave_at_once()
    from runner.command_line import leave

    leave()

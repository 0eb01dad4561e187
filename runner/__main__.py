"""The command line: `python -m runner lr=0.05 steps=1000`."""

from typing import NoReturn

from runner import interruption


def main() -> NoReturn:
    """Run what the arguments say and leave with the exit code: also the installed command."""
    interruption.leave_at_once()
    from runner.command_line import leave

    leave()


if __name__ == "__main__":
    main()

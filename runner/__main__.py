"""The command line: `python -m runner lr=0.05 steps=1000`."""

import os
from typing import NoReturn

from runner import interruption


def main() -> NoReturn:
    """Run what the arguments say and leave with the exit code: also the installed command."""
    interruption.leave_at_once()
    # Threads that spin while they wait make runs beside each other several times slower, and a run alone no faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from runner.command_line import leave

    leave()


if __name__ == "__main__":
    main()

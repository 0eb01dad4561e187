"""The command line: `python -m runner lr=0.05 steps=1000`."""

import os
import sys

from runner.process import signals, termination


def main() -> None:
    """Run what the arguments say and leave: also the installed command.

    Raises:
        SystemExit: with the exit code, where it is not 0; one that is may return, where others go on after us.
    """
    is_free = termination.is_program(sys._getframe()) and not termination.has_hooks()
    if is_free:
        signals.leave_at_once()
    # Threads that spin while they wait make runs beside each other several times slower, and a run alone no faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with termination.visiting():
        from runner.cli import command_line

        code = command_line.main()
    termination.leave(code, is_free)


if __name__ == "__main__":
    main()

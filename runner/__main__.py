"""The command line: `python -m runner lr=0.05 steps=1000`."""

import os
import sys

from runner.process import signals, termination


def main() -> None:
    """Run what the arguments say and exit; also the entry point of the installed command.

    Raises:
        SystemExit: with the exit code if it is not 0; with 0, the function may return to the code that called it.
    """
    is_free = termination.is_program(sys._getframe()) and not termination.has_hooks()
    if is_free:
        signals.exit_on_signal()
    # Threads that spin while waiting make concurrent runs several times slower and a single run no faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with termination.restored_state():
        from runner.cli import command_line

        code = command_line.main()
    termination.exit_process(code, is_free)


if __name__ == "__main__":
    main()

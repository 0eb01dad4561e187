"""MLflow's UI, opened at the answer: `python -m runner.ui [ID]`."""

import sys

if __name__ == "__main__":
    from runner.report.ui import main

    if (code := main()) != 0:  # returns for 0, so that a caller can continue
        sys.exit(code)

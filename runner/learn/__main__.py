"""The learner's page: `python -m runner.learn objective=rosenbrock`."""

import os
import sys

if __name__ == "__main__":
    # Threads that spin while waiting make concurrent runs several times slower and a single run no faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from runner.learn.command import main

    if (code := main()) != 0:  # returns for 0, so that a caller can continue
        sys.exit(code)

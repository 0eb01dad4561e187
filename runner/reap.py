"""Marking runs whose process is gone as KILLED: `python -m runner.reap`."""

import sys

from runner.recorder.silence import quiet_mlflow

if __name__ == "__main__":
    quiet_mlflow()  # before MLflow is imported
    from runner.recorder.reap import main

    if (code := main()) != 0:  # else whoever runs us may go on
        sys.exit(code)

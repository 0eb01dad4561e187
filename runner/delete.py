"""Deleting runs and whole sweeps from the record: `python -m runner.delete ID`."""

import sys

from runner.recorder.silence import quiet_mlflow

if __name__ == "__main__":
    quiet_mlflow()  # before MLflow is imported
    from runner.recorder.delete import main

    if (code := main()) != 0:  # else whoever runs us may go on
        sys.exit(code)

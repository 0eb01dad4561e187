"""Exporting recorded runs to a file: `python -m runner.export ID... --to FILE.csv`."""

import sys

from runner.recorder.mlflow_settings import configure_mlflow

if __name__ == "__main__":
    configure_mlflow()  # before MLflow is imported
    from runner.reading.export import main

    if (code := main()) != 0:  # returns for 0, so that a caller can continue
        sys.exit(code)

"""What the commands that read or change the record share: their `--uri`, their errors and exit codes."""

import argparse
import os
from collections.abc import Iterable

from mlflow.exceptions import MlflowException

from runner.config.uris import DEFAULT_URI
from runner.messages.errors import RunnerError
from runner.messages.printing import print_error, print_lines
from runner.recorder.errors import StoreError
from runner.recorder.opening import describe_error


def add_uri(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--uri`, the store."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    parser.add_argument("--uri", default=uri, help="the store; MLFLOW_TRACKING_URI or outputs/mlflow.db")


def print_all(lines: Iterable[str], uri: str) -> int:
    """Print lines as they come, and errors in lines of their own; return the exit code: 2 for a user's mistake."""
    try:
        for line in lines:
            print_lines(line)
    except StoreError as error:
        print_error(f"error: {error}")
        return 2
    except RunnerError as error:
        for line in error.lines:
            print_error(f"error: {line}")
        return error.exit_code
    except (MlflowException, OSError) as error:
        print_error(f"error: {describe_error(error, uri)}")
        return 1
    return 0

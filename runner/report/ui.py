"""The command `python -m runner.ui`: MLflow's UI, opened at the answer."""

import argparse
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.config.folders import check_working_directory
from runner.config.schema import URI
from runner.config.uris import DEFAULT_URI, absolute_uri, sqlite_path
from runner.messages.errors import UserError
from runner.messages.printing import print_error, print_lines
from runner.messages.redaction import shown_text
from runner.process.browser import open_in_browser
from runner.recorder.mlflow_settings import configure_mlflow
from runner.recorder.relocation import follow
from runner.recorder.ui_server import address, port_problem, serve, server_command
from runner.report.views import DEFAULT_PORT, ui_of_server

if TYPE_CHECKING:
    from runner.recorder.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the UI until Ctrl-C, and return the exit code; that of a tracking server is only opened."""
    asked = _parsed(arguments)
    environment = _environment(asked)
    configure_mlflow()  # before MLflow is imported
    try:
        place = _place(asked)
    except UserError as error:
        for line in error.lines:
            print_error(f"error: {line}")
        return 2
    except KeyboardInterrupt:
        return 0
    server = ui_of_server(asked.uri)
    if server is not None:
        _open(f"{server}/{place}", asked.no_browser, "")
        return 0

    def open_it() -> None:
        _open(f"{address(asked.port)}/{place}", asked.no_browser, " (Ctrl-C ends the server)")

    return serve(server_command(asked.port, asked.verbose), asked.port, environment, open_it)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runner.ui", description="Browse the record in MLflow's UI.")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    parser.add_argument(
        "id",
        nargs="?",
        help="of a sweep or a run, or its first characters, at least four; or an experiment (the latest sweep)",
    )
    parser.add_argument("--uri", default=uri, help=f"the database or server ({shown_text(uri)})".replace("%", "%%"))
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="of 127.0.0.1 (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument("--verbose", action="store_true", help="log each request")
    asked = parser.parse_args(arguments)
    if not 0 < asked.port < 2**16:
        parser.error(f"--port {asked.port}: expected a whole number from 1 to {2**16 - 1}")
    shown = shown_text(asked.uri)
    if not URI.accepts(asked.uri):
        parser.error(f"--uri {shown}: expected {URI.allowed}")
    try:
        check_working_directory()
    except UserError as error:
        parser.error(f"{error}")
    path = sqlite_path(asked.uri)
    if path is not None and not path.is_file():
        parser.error(f"--uri {shown}: no database there yet, expected one; a run creates it: python -m runner")
    is_served = ui_of_server(asked.uri) is None
    if is_served and (reason := port_problem(asked.port, DEFAULT_PORT)) is not None:
        parser.error(reason)
    if path is not None:
        follow(path)
    return asked


def _environment(asked: argparse.Namespace) -> dict[str, str]:
    """Return the server's environment variables."""
    # The URI may hold a password, which a command line would show to every user.
    own = {
        "MLFLOW_BACKEND_STORE_URI": absolute_uri(asked.uri),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    quiet = {} if asked.verbose else {"MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
    return quiet | dict(os.environ) | own


def _place(asked: argparse.Namespace) -> str:
    """Return the address to open, without the host.

    Raises:
        UserError: there is no such run, or the store cannot be read.
    """
    from runner.recorder.errors import StoreError
    from runner.recorder.finding import MlflowException, existing_store
    from runner.recorder.opening import describe_error
    from runner.report.opened import address_of

    store: Store | None = None
    try:
        store = existing_store(asked.uri)
        return address_of(store, asked.id)
    except StoreError as error:
        raise UserError(str(error)) from None
    except MlflowException as error:
        raise UserError(describe_error(error, asked.uri)) from None
    finally:
        if store is not None:
            store.close()


def _open(url: str, is_printed_only: bool, note: str) -> None:
    print_lines(f"open {url}{note}")
    if not is_printed_only:
        # Some browsers are waited for until they are closed.
        threading.Thread(target=open_in_browser, args=(url,), daemon=True).start()

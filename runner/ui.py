"""MLflow's UI on the record: `python -m runner.ui`."""

import argparse
import os
import sys
from pathlib import Path

from runner.config import URI
from runner.hiding import shown_text
from runner.tracking.relocation import follow
from runner.tracking.uris import absolute_uri, sqlite_path

DEFAULT_URI = "sqlite:///outputs/mlflow.db"
ARTIFACTS = Path("outputs/artifacts")
HOST = "127.0.0.1"


def server_command(port: int) -> list[str]:
    """Return the command that serves the UI to this machine and no other."""
    hosts = ",".join(f"{host}:{port}" for host in (HOST, "localhost"))
    return [
        sys.executable, "-m", "mlflow", "server",
        "--artifacts-destination", ARTIFACTS.absolute().as_uri(),
        "--host", HOST,
        "--port", str(port),
        "--allowed-hosts", hosts,
        "--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts.split(",")),
        "--workers", "1",
    ]  # fmt: skip


def main() -> None:
    """Serve the UI until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m runner.ui", description="Browse the record in MLflow's UI.")
    uri = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)
    parser.add_argument("--uri", default=uri, help=f"the database ({shown_text(uri)})".replace("%", "%%"))
    parser.add_argument("--port", type=int, default=5000, help="of 127.0.0.1 (%(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 2**16:
        parser.error(f"--port {arguments.port}: expected a whole number from 1 to {2**16 - 1}")
    shown = shown_text(arguments.uri)
    if not URI.accepts(arguments.uri):
        parser.error(f"--uri {shown}: expected {URI.allowed}")
    path = sqlite_path(arguments.uri)
    if path is not None and not path.is_file():
        parser.error(f"--uri {shown}: no database there yet; a run makes it: python -m runner")
    if arguments.uri.startswith("http"):
        parser.error(f"--uri {shown}: expected a database; a server has its UI at its own address")
    if path is not None:
        follow(path)
    # The URI may hold a password, which a command line would show to everyone on the machine.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = absolute_uri(arguments.uri)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    print(f"open http://{HOST}:{arguments.port} (Ctrl-C ends it)", flush=True)
    command = server_command(arguments.port)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

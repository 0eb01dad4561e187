"""Local artifacts: always written to the folder of their run, whatever a database, server or journal names."""

import re
from pathlib import Path, PurePosixPath

from runner.recorder.errors import StoreError
from runner.recorder.mlflow_private import is_local_uri, local_file_uri_to_path
from runner.tracking.files import write_file

RUN_ID = re.compile(r"[0-9a-f]{32}")


def local_folder(uri: str) -> Path | None:
    """Return the local folder of an artifact URI; None if it is not local."""
    return Path(local_file_uri_to_path(uri)).absolute() if is_local_uri(uri) else None


def run_folder(root: Path, run_id: str) -> Path:
    """Return the folder of a run's artifacts under the root.

    Raises:
        StoreError: the id is not one of MLflow's.
    """
    if not RUN_ID.fullmatch(run_id):
        raise StoreError(f"run {run_id!r}: expected an id of 32 hexadecimal digits")
    return root / run_id / "artifacts"


def write_artifact(root: Path, run_id: str, name: str, content: bytes) -> Path:
    """Write an artifact of a run under the root, and return its path.

    Raises:
        StoreError: its name leads outside the run's folder.
        OSError: it cannot be written, or is reached through a link.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise StoreError(f"artifact {name!r}: expected a path inside the folder of its run")
    path = run_folder(root, run_id).joinpath(*parts)
    write_file(path, content, root)
    return path

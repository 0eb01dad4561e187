"""Checks, before a run begins, that the record can be written."""

import os
from pathlib import Path

from runner.config.schema import LONGEST_EXPERIMENT, Tracking
from runner.config.uris import IN_MEMORY, is_in_memory, sidecar_files, sqlite_path
from runner.messages.errors import RecordingError, UserError
from runner.messages.redaction import shown_text
from runner.tracking.files import A_LINK, link_to

# Length of the column of experiment names, which SQLite does not enforce.
LONGEST_IN_COLUMN = 256
ELSE = "name another place, or run with tracking=off"


def check_places(journals: Path, tracking: Tracking) -> None:
    """Check that journals, a SQLite database and artifacts can be written in their places.

    Raises:
        RecordingError: the journals or the artifacts cannot be written.
        UserError: the database cannot be written, or would exist in memory only.
    """
    uri = tracking.uri or ""
    if is_in_memory(uri):
        raise UserError(f"tracking.uri={uri}: {IN_MEMORY}")
    longest = LONGEST_EXPERIMENT if uri.startswith(("sqlite", "http")) else LONGEST_IN_COLUMN
    if len(tracking.experiment or "") > longest:
        raise UserError(f"tracking.experiment={tracking.experiment}: expected at most {longest} characters there")
    for folder in (journals, tracking.artifacts):
        if folder is not None and (reason := _unwritable_folder(Path(folder).absolute())) is not None:
            raise RecordingError(f"{reason}; {ELSE}")
    path = sqlite_path(uri)
    if path is not None and (reason := _unwritable_database(path)) is not None:
        raise UserError(f"tracking.uri={shown_text(uri)}: {reason}; {ELSE}")


def _unwritable_database(path: Path) -> str | None:
    if (reason := _unwritable_folder(path.parent)) is not None:
        return reason
    for file in (path, *sidecar_files(path), path.with_name(f"{path.name}.lock")):
        if (link := link_to(file)) is not None:
            return f"{link}: {A_LINK}"
        if file.exists() and not file.is_file():
            return f"{file}: is not a regular file"
        is_lock = file.suffix == ".lock"  # which can be locked with read access alone
        if file.exists() and not os.access(file, os.R_OK | (0 if is_lock else os.W_OK), effective_ids=True):
            return _not_writable(file)
    return None


def _unwritable_folder(folder: Path) -> str | None:
    if (link := link_to(folder)) is not None:
        return f"{link}: {A_LINK}"
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder}: is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK, effective_ids=True) else _not_writable(folder)


def _not_writable(path: Path) -> str:
    is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return f"{path}: cannot be written ({'Read-only file system' if is_read_only else 'Permission denied'})"

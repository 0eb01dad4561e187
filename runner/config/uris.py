"""Tracking URIs, made absolute."""

import re
from pathlib import Path
from urllib.parse import unquote

SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>[^?]+)")
# Where runs are recorded unless the config or MLFLOW_TRACKING_URI says otherwise; as in conf/tracking/sqlite.yaml.
DEFAULT_URI = "sqlite:///outputs/mlflow.db"
IN_MEMORY = f"expected the path of a file, as in {DEFAULT_URI}, or tracking=off to keep nothing"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI, or None for another kind of store."""
    match = SQLITE.match(uri)
    return Path(unquote(match["path"])).absolute() if match else None


def is_in_memory(uri: str) -> bool:
    """Return whether a SQLite URI names no plain file: a database in memory, or one given as a `file:` URI."""
    if not uri.startswith("sqlite"):
        return False
    match = SQLITE.match(uri)
    return match is None or match["path"].startswith((":memory:", "file:"))


def absolute_uri(uri: str) -> str:
    """Return the URI with a relative SQLite file taken from the working directory."""
    path = sqlite_path(uri)
    return uri if path is None else SQLITE.sub(lambda match: sqlite_uri(path, match["scheme"]), uri, count=1)


def sqlite_uri(path: Path, scheme: str = "sqlite:///") -> str:
    """Return the URI of a SQLite file, with special characters in its path escaped."""
    return scheme + path.as_posix().replace("%", "%25").replace("?", "%3F")


def sidecar_files(path: Path) -> list[Path]:
    """Return the paths of the extra files that SQLite keeps next to a database."""
    return [path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm", "journal")]

"""Tracking URIs, made absolute."""

import re
from pathlib import Path

SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI, or None for another kind of store."""
    match = SQLITE.match(uri)
    return Path(match["path"]).absolute() if match else None


def absolute_uri(uri: str) -> str:
    """Return the URI with a relative SQLite file taken from the working directory."""
    path = sqlite_path(uri)
    return (
        uri
        if path is None
        else SQLITE.sub(lambda match: match[0].removesuffix(match["path"]) + path.as_posix(), uri, count=1)
    )

"""Whether a store can be reached at all, found out in seconds; MLflow itself would try again for minutes."""

import socket
from urllib.parse import urlsplit
from urllib.request import urlopen

SECONDS = 4
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def unreachable(uri: str) -> str | None:
    """Return why a server, or the server of a database, does not answer; None where it does or none is needed."""
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            with urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS):
                return None
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname is not None and port is not None:
            with socket.create_connection((parts.hostname, port), timeout=SECONDS):
                return None
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors, a port that is none a ValueError
        return f"{getattr(error, 'reason', error)}"
    return None

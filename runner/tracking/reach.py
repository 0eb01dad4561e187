"""Whether a store can be reached at all, found out in seconds; MLflow itself would try again for minutes."""

import base64
import socket
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import Request, urlopen

SECONDS = 3
MALFORMED = "not a URI; in a password characters such as @ : / are written %40 %3A %2F"


def unreachable(uri: str) -> str | None:
    """Return why a server, or the server of a database, does not answer; None where it does or none is needed."""
    if uri.startswith("sqlite"):
        return None
    if not uri.startswith("http"):
        return _unreachable_database(uri)
    try:
        request = _health(urlsplit(uri))
    except ValueError:
        return MALFORMED
    try:
        with urlopen(request, timeout=SECONDS):
            return None
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors
        return f"{getattr(error, 'reason', error)}"


def _health(parts: SplitResult) -> Request:
    """Return the question whether a server is there; urllib takes no user from a URI, as MLflow does."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    address = host if parts.port is None else f"{host}:{parts.port}"
    request = Request(f"{parts.scheme}://{address}{parts.path.rstrip('/')}/health")
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    return request


def _unreachable_database(uri: str) -> str | None:
    # MLflow's own, which only what records imports; it reads a URI as MLflow will.
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(uri)
    except (SQLAlchemyError, ValueError):
        return MALFORMED
    seconds = {"connect_timeout": SECONDS} if url.get_backend_name() == "postgresql" else {}
    try:
        if url.host is not None and url.port is not None:
            socket.create_connection((url.host, url.port), timeout=SECONDS).close()
        engine = create_engine(url, connect_args=seconds)
        engine.connect().close()
        engine.dispose()
    except OSError as error:
        return f"{error}"
    except (SQLAlchemyError, ImportError) as error:
        return " ".join(str(getattr(error, "orig", error)).split())
    return None

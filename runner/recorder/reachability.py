"""Checks within seconds whether a store can be reached; MLflow would retry for minutes.

Any answer of a server counts: authentication, certificates and paths are checked later, by MLflow.
"""

import socket
import ssl
from http.client import HTTPException, HTTPMessage, InvalidURL
from typing import IO
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener, getproxies

SECONDS = 3
MALFORMED = "not a URI; in a password characters such as @ : / are written %40 %3A %2F"


def unreachable(uri: str) -> str | None:
    """Return why a server, or a database server, cannot be reached; None if it can, or if no server is needed."""
    if uri.startswith("sqlite"):
        return None
    if not uri.startswith("http"):
        return _unreachable_database(uri)
    try:
        question = _question(urlsplit(uri))
        proxies = _proxies()
        if any(proxy.startswith("socks") for proxy in proxies.values()):
            return None  # urllib does not support them, MLflow's client does
        opener = build_opener(ProxyHandler(proxies), HTTPSHandler(context=_trusting()), _Staying())
    except ValueError:
        return MALFORMED
    try:
        with opener.open(question, timeout=SECONDS):
            return None
    except (HTTPError, ssl.SSLError):
        return None
    except InvalidURL:
        return MALFORMED
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else f"{reason}"
    except HTTPException as error:
        return f"the answer is not HTTP ({type(error).__name__})"


class _Staying(HTTPRedirectHandler):
    """Follows no redirection: it counts as an answer, and its target, such as a login page, may be unreachable."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Return None, so that no request follows."""


def _trusting() -> ssl.SSLContext:
    """Return a context that accepts any certificate: the request sends nothing secret."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _proxies() -> dict[str, str]:
    """Return the proxies in the environment, including `all_proxy`, which urllib ignores."""
    proxies = getproxies()
    general = proxies.get("all")
    return proxies if general is None else {"http": general, "https": general} | proxies


def _question(parts: SplitResult) -> Request:
    """Return the request to a server, without the user name in its URI."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    address = host if parts.port is None else f"{host}:{parts.port}"
    return Request(f"{parts.scheme}://{address}{parts.path.rstrip('/')}/health")


def _unreachable_database(uri: str) -> str | None:
    # SQLAlchemy parses the URI as MLflow will.
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

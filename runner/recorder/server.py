"""A tracking server: several requests at once, the status of a run after all its other data."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests import Response
from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import SSLError, Timeout

from runner.recorder.errors import StoreError, UnreachableError
from runner.recorder.mlflow_private import get_default_host_creds, http_request
from runner.recorder.store import METRICS_A_REQUEST, PARAMS_A_REQUEST, Store

IN_FLIGHT = 8
Request = Callable[[], Any]
ASKED = "/api/2.0/mlflow/experiments/search"
WHO = (
    "expected MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, or a user in the URI, "
    "with write access"
)
CERTIFICATE = (
    "expected a certificate that this machine trusts, MLFLOW_TRACKING_SERVER_CERT_PATH, "
    "or MLFLOW_TRACKING_INSECURE_TLS=true; if it asks for a client certificate, MLFLOW_TRACKING_CLIENT_CERT_PATH"
)
# Status codes of a server, or a proxy before it, that may work again later.
FOR_A_WHILE = (408, 429)


def check(uri: str) -> None:
    """Send a request to a server, with MLflow's own authentication, certificates and paths.

    Raises:
        UnreachableError: the server fails, or does not answer in time.
        StoreError: the server denies access, or is not an MLflow server.
    """
    try:
        answer: Response = http_request(
            get_default_host_creds(uri), ASKED, "POST", json={"max_results": 1}, raise_on_status=False
        )
    except MlflowException as error:
        cause = error.__context__
        if isinstance(cause, SSLError):
            raise StoreError(f"{_reason(cause)}: {CERTIFICATE}") from None
        is_away = isinstance(cause, NoConnectionError | Timeout)
        raise (UnreachableError if is_away else StoreError)(_reason(cause or error)) from None
    status = f"answers {answer.status_code} {answer.reason}".strip()
    if answer.status_code in (401, 403, 407):
        raise StoreError(f"{status}: {WHO}")
    if answer.status_code >= 500 or answer.status_code in FOR_A_WHILE:
        raise UnreachableError(status)
    if answer.status_code != 200 or not _is_mlflows(answer):
        raise StoreError(f"{status}, not as MLflow does: expected the address of an MLflow server")


def _reason(error: BaseException) -> str:
    """Return the innermost reason of a failed request, in a line."""
    while (inner := getattr(error, "reason", None) or next(iter(error.args), None)) and isinstance(
        inner, BaseException
    ):
        error = inner
    return " ".join(f"{error}".split())


def _is_mlflows(answer: Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


class ServerStore(Store):
    """Sends several requests at once where their order does not matter, and repeats those that fail."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        super().__init__(client, artifacts, may_have_begun)
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._in_flight: dict[Future[Any], Request] = {}
        self._failed: list[Request] = []

    def flush(self) -> None:
        """Send what is buffered, and wait for all requests."""
        super().flush()
        self._settle()

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        entities = [Param(key, value) for key, value in params.items()]
        for chunk in range(0, len(entities), PARAMS_A_REQUEST):
            self._send(partial(self._client.log_batch, run_id, params=entities[chunk : chunk + PARAMS_A_REQUEST]))

    def _log_metrics(self, run: str, metrics: list[Metric]) -> None:
        for chunk in range(0, len(metrics), METRICS_A_REQUEST):
            part = metrics[chunk : chunk + METRICS_A_REQUEST]
            self._send(partial(self._client.log_batch, self._runs[run], metrics=part))

    def _log_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self._send(partial(self._client.log_batch, run_id, tags=[RunTag(*item) for item in tags.items()]))

    def _set_status(self, run_id: str, status: str, time_ms: int) -> None:
        self._settle()
        super()._set_status(run_id, status, time_ms)

    def _send(self, request: Request) -> None:
        while len(self._in_flight) >= IN_FLIGHT:
            self._take(wait(self._in_flight, return_when=FIRST_COMPLETED).done)
        self._in_flight[self._pool.submit(request)] = request

    def _settle(self) -> None:
        """Wait for all requests, and repeat those that failed once.

        Raises:
            Exception: a request failed again; it is repeated at the next call.
        """
        self._take(wait(self._in_flight).done)
        while self._failed:
            self._failed[0]()
            self._failed.pop(0)

    def _take(self, done: set[Future[Any]]) -> None:
        for future in done:
            request = self._in_flight.pop(future)
            if future.exception() is not None:
                self._failed.append(request)

"""A tracking server as the recorder uses it: several requests in flight, the status of a run after all the others."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from runner.tracking.store import METRICS_A_REQUEST, PARAMS_A_REQUEST, Store

IN_FLIGHT = 8
Request = Callable[[], Any]


class ServerStore(Store):
    """Sends what may come in any order by several requests at once; a request that fails is sent again."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        super().__init__(client, artifacts, may_have_begun)
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._in_flight: dict[Future[Any], Request] = {}
        self._failed: list[Request] = []

    def flush(self) -> None:
        """Send what waits, and wait until all of it has arrived."""
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
        """Wait for all requests, and send again, once, those that failed.

        Raises:
            Exception: of a request that failed again; it is sent with the next.
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

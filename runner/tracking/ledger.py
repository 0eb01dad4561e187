"""The ledger: what is recorded of a sweep that is to be continued."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Finished:
    """A job that an earlier sweep has done: its run in MLflow, its final results, and what was said of it.

    Attributes:
        still_since: the last step that moved its weight, where it stood still after it.
    """

    run_id: str
    metrics: Mapping[str, float]
    has_diverged: bool = False
    still_since: int | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Ledger:
    """What is recorded of a sweep that is to be continued.

    Attributes:
        parent: our id of its parent run.
        finished: the jobs that are done, by fingerprint; as many as ran with the same one.
    """

    parent: str
    finished: Mapping[str, Sequence[Finished]] = field(default_factory=dict)

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        """Return the ledger that the recorder tells of."""
        finished: dict[str, list[Finished]] = {}
        for key, *job in message["finished"]:
            finished.setdefault(key, []).append(Finished(*job))
        return cls(message["parent"], finished)

    def matching(self, prints: Sequence[str]) -> dict[int, Finished]:
        """Return which of the jobs with these fingerprints are done, each recorded run for one job."""
        left = {key: list(runs) for key, runs in self.finished.items()}
        return {index: left[key].pop(0) for index, key in enumerate(prints) if left.get(key)}

"""The ledger: the finished jobs of a sweep that is to be resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias


@dataclass(frozen=True)
class Finished:
    """A finished job of an earlier start: its run in MLflow, its final results and remarks.

    Attributes:
        still_since: the last step that changed its weight, if the weight stopped changing.
    """

    run_id: str
    metrics: Mapping[str, float]
    has_diverged: bool = False
    still_since: int | None = None
    remark: str | None = None
    is_pruned: bool = False


@dataclass(frozen=True)
class Ledger:
    """What is recorded of a sweep that is to be resumed.

    Attributes:
        parent: the runner's id of its parent run.
        finished: the finished jobs by fingerprint, one for each run that had it.
        params: of the parent run; `tags` likewise.
    """

    parent: str
    finished: Mapping[str, Sequence[Finished]] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        """Return the ledger in a message of the recorder."""
        finished: dict[str, list[Finished]] = {}
        for key, *job in message["finished"]:
            finished.setdefault(key, []).append(Finished(*job))
        return cls(message["parent"], finished, message["params"], message["tags"])

    def left(self) -> "Left":
        """Return the finished jobs for `take` to take from."""
        return {key: list(runs) for key, runs in self.finished.items()}


# The finished jobs that no job of the sweep has been found to be yet, by fingerprint.
Left: TypeAlias = dict[str, list[Finished]]


def take(left: Left, prints: Sequence[str]) -> dict[int, Finished]:
    """Return, by index, which jobs with these fingerprints are finished; each recorded run counts for one job."""
    return {index: left[key].pop(0) for index, key in enumerate(prints) if left.get(key)}

"""A job of a sweep: one combination of the swept values, and its config."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.config.schema import Config
from runner.messages.overrides import split_override
from runner.messages.redaction import shown_override


@dataclass(frozen=True, eq=False)
class Job:
    """One combination of the swept values.

    Attributes:
        overrides: all overrides of the job.
        varying: those of them that vary within the sweep.
        config: the config that the overrides give.
        is_named: whether `config.name` is its name, since that differs from job to job; else the labels are.
        labels: the varying overrides with few digits.
        tags: recorded with its run.
    """

    overrides: tuple[str, ...]
    varying: tuple[str, ...]
    config: Config
    is_named: bool = False
    labels: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A name that no other job of the sweep has."""
        return " ".join(map(shown_override, self.labels))

    @property
    def name_but_for_seed(self) -> str:
        """The name without the seed, which jobs that differ only in their seed share."""
        return " ".join(shown_override(text) for text in self.labels if not text.startswith("seed="))

    @property
    def varied(self) -> dict[str, str]:
        """The values that vary within the sweep, as written, by key."""
        return by_key(map(shown_override, self.varying))


def by_key(texts: Iterable[str]) -> dict[str, str]:
    """Return the values of overrides by key: the last of each key, or all if they are mappings, which are merged."""
    values: dict[str, str] = {}
    for text in texts:
        given = split_override(text)
        key, value = given.key, given.value or ""
        values[key] = f"{values[key]} {value}" if key in values and value.startswith("{") else value
    return values


def named(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of a sweep, named by their configs if these have different names."""
    are_named = len({job.config.name for job in jobs}) > 1
    return [replace(job, is_named=True) for job in jobs] if are_named else list(jobs)


def shared_config(jobs: Sequence[Job]) -> Config:
    """Return the config for the parent run: that of the first job, without a name that other jobs do not share."""
    first = jobs[0]
    return replace(first.config, name=None) if first.is_named else first.config

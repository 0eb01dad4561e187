"""A job of a sweep: one combination of what varies, and the config that it gives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runner.config.schema import Config
from runner.messages.overrides import split_override
from runner.messages.redaction import shown_override


@dataclass(frozen=True, eq=False)
class Job:
    """One combination.

    Attributes:
        overrides: all that it is composed of.
        varying: what of them varies within the sweep.
        config: what they give.
        is_named: the config names it, and others otherwise; else it is named by what varies.
        labels: what varies in few digits, for people.
    """

    overrides: tuple[str, ...]
    varying: tuple[str, ...]
    config: Config
    is_named: bool = False
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells the job from the others of its sweep."""
        return " ".join(map(shown_override, self.labels))

    @property
    def name_but_for_seed(self) -> str:
        """What tells it from the others but those that differ in their seeds alone."""
        return " ".join(shown_override(text) for text in self.labels if not text.startswith("seed="))

    @property
    def varied(self) -> dict[str, str]:
        """The keys that vary within the sweep, and their values as written."""
        return by_key(map(shown_override, self.varying))


def by_key(texts: Iterable[str]) -> dict[str, str]:
    """Return the values of overrides by key: the last of each, and all of those that a run merges."""
    values: dict[str, str] = {}
    for text in texts:
        given = split_override(text)
        key, value = given.key, given.value or ""
        values[key] = f"{values[key]} {value}" if key in values and value.startswith("{") else value
    return values


def named(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of a sweep as named by their configs where these do not all say the same."""
    are_named = len({job.config.name for job in jobs}) > 1
    return [replace(job, is_named=True) for job in jobs] if are_named else list(jobs)


def shared_config(jobs: Sequence[Job]) -> Config:
    """Return the config that stands for all jobs of a sweep: the first one's, without its name where others differ."""
    first = jobs[0]
    return replace(first.config, name=None) if first.is_named else first.config

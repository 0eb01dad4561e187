"""The files in the record from which a run can be composed again: its config, its overrides, a user's source.

A single run has a file for its config and one for its overrides. The jobs of a sweep share one file, an artifact of
the parent run, with the config that they have in common and what differs in each.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from runner.config.schema import Config
from runner.messages.redaction import shown_override, shown_tree
from runner.tracking.provenance import Dumper, config_yaml, hidden_keys
from runner.tracking.source_text import without_secrets

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
JOBS = "jobs.jsonl.gz"
SOURCE = "source"
# The folder of a sweep's parent run with a folder for each time that it was resumed, which holds the new jobs.
RESUMED = "resumed"
# A tag: the keys and lines whose secrets are not recorded, without which the run cannot be repeated.
SECRETS = "runner.secrets"
# A tag: why a user's source is not recorded.
NO_SOURCE = "runner.no_source"
MOST_SOURCE_BYTES = 2**20
# A file of jobs may be anyone's, and small before it is decompressed.
MOST_JOBS_BYTES = 2**31


@dataclass(frozen=True)
class RunFiles:
    """Artifacts of a run, and the tags that say what is missing in them."""

    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep: the runner's id of its run, the overrides that it is composed of, and its config."""

    run: str
    overrides: Sequence[str]
    config: Config


def single_run_files(config: Config, overrides: Sequence[str], sources: Mapping[str, bytes]) -> RunFiles:
    """Return the files of a single run, for the overrides and the user's source, by file, that it is made of."""
    texts = yaml.dump([shown_override(text) for text in overrides], Dumper=Dumper)
    source = _source_files(sources)
    tags = _tag_of([*hidden_keys(config.tree), *source.tags.get(SECRETS, "").split()])
    own = {CONFIG: config_yaml(config).encode(), OVERRIDES: texts.encode()}
    return RunFiles(own | source.files, source.tags | tags)


def sweep_files(
    shared: Config, jobs: Iterable[SweepJob], sources: Mapping[str, bytes], resumed_ms: int | None = None
) -> RunFiles:
    """Return the files of a sweep's parent run.

    Args:
        shared: the parent's config, to which the jobs' configs are compared.
        jobs: those that this start of the sweep runs.
        sources: the user's source that any of them is made of, by file.
        resumed_ms: when the sweep was resumed, in milliseconds since 1970; None at its first start.
    """
    source = _source_files(sources)
    lines = list(_lines(shared, jobs))
    found = {CONFIG: config_yaml(shared).encode()} if resumed_ms is None else {}
    if len(lines) > 1:
        found[JOBS] = gzip.compress("".join(map(_line, lines)).encode(), mtime=0)
    found |= source.files
    folder = "" if resumed_ms is None else f"{RESUMED}/{resumed_ms}/"
    hidden = dict.fromkeys(key for line in lines for key in line.get("hidden", ()))
    tags = _tag_of([*hidden, *source.tags.get(SECRETS, "").split()])
    return RunFiles({f"{folder}{path}": content for path, content in found.items()}, source.tags | tags)


def _lines(shared: Config, jobs: Iterable[SweepJob]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of jobs: the shared config, then what differs in each job's, by root key."""
    common = shared.tree
    yield {"config": shown_tree(common), "hidden": hidden_keys(common)}
    for job in jobs:
        tree = job.config.tree | {"parent_run": None}
        differing = {key: value for key, value in tree.items() if not _is_same(value, common[key])}
        line = {
            "run": job.run,
            "overrides": [shown_override(text) for text in job.overrides],
            "config": shown_tree(differing),
            "hidden": hidden_keys(differing),
        }
        yield {key: value for key, value in line.items() if value}


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two values of configs are written alike: 1 and 1.0 are not."""
    return value is other or (type(value) is type(other) and repr(value) == repr(other))


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def jobs_in(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the runner's id and the record of each job in a file of jobs: its `config`, `overrides` and `hidden` keys.

    Raises:
        ValueError: the content is not a file of jobs.
    """
    try:
        shared, *lines = map(json.loads, _decompressed(content).splitlines())
        for line in lines:
            differing = line.get("config", {})
            hidden = [key for key in shared.get("hidden", ()) if key.split(".")[0] not in differing]
            yield (
                line["run"],
                {
                    "config": shared["config"] | differing,
                    "overrides": line.get("overrides", []),
                    "hidden": hidden + line.get("hidden", []),
                },
            )
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a file of jobs ({error})") from None


def _decompressed(content: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)  # of gzip
    data = reader.decompress(content, MOST_JOBS_BYTES)
    if not reader.eof:
        raise ValueError(f"cut off, or larger than {MOST_JOBS_BYTES:,} bytes")
    return data


def _source_files(sources: Mapping[str, bytes]) -> RunFiles:
    size = sum(map(len, sources.values()))
    if size > MOST_SOURCE_BYTES:
        return RunFiles(tags={NO_SOURCE: f"{size:,} bytes, at most {MOST_SOURCE_BYTES:,} are recorded"})
    files: dict[str, bytes] = {}
    secrets: list[str] = []
    for file, content in sources.items():
        path = f"{SOURCE}/{file}"
        files[path], lines = without_secrets(content)
        secrets += (f"{path}:{line}" for line in lines)
    return RunFiles(files, _tag_of(secrets))


def _tag_of(secrets: Sequence[str]) -> dict[str, str]:
    return {SECRETS: " ".join(secrets)} if secrets else {}

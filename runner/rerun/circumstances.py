"""What else differs between a recorded run and its rerun: versions, hardware, the commit, the user's code, the data."""

from collections.abc import Iterator, Mapping

from runner.config.schema import Config
from runner.execution.sources import first_sources_of
from runner.recorder.reading_back import RecordedRun
from runner.tracking.run_files import NO_SOURCE
from runner.tracking.source_text import without_secrets

# The tags of a run, and what they are called here.
NAMES = {
    "version.runner": "runner",
    "version.numerics": "NUMERICS",
    "version.torch": "torch",
    "version.python": "Python",
    "device": "device",
    "device.threads": "threads",
    "device.vectors": "CPU capability",
    "data.sha256": "data of SHA-256",
    "data.start.sha256": "initial weights of SHA-256",
    "git.commit": "git commit",
    "git.dirty": "uncommitted changes",
}
DIGEST_LENGTH = 10


def circumstances(tags: Mapping[str, str], recorded: RecordedRun, now: Mapping[str, str], config: Config) -> list[str]:
    """Return what differs, as `torch 2.13.0, recorded 2.12.0`.

    Args:
        tags: of the recorded run.
        recorded: what it was composed of.
        now: the tags that the rerun has.
        config: of the rerun.
    """
    return [*_tags(tags, now), *_source(tags, recorded, config)]


def _tags(recorded: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for key, name in NAMES.items():
        before, after = recorded.get(key), now.get(key)
        if before is not None and before != after:
            yield f"{name} {_short(key, after or 'unknown')}, recorded {_short(key, before)}"


def _short(key: str, value: str) -> str:
    return value[:DIGEST_LENGTH] if key in ("data.sha256", "data.start.sha256", "git.commit") else value


def _source(tags: Mapping[str, str], recorded: RecordedRun, config: Config) -> Iterator[str]:
    if not config.targets:
        return
    if NO_SOURCE in tags:
        yield f"perhaps your code, which is not recorded: {tags[NO_SOURCE]}"
        return
    found = [source for target in config.targets for source in first_sources_of(target).values()]
    now = {source.file: without_secrets(source.content)[0] for source in found if source.file is not None}
    for file in sorted({*recorded.source, *now}):
        if file not in now:
            yield f"{file}, which is no longer used"
        elif file not in recorded.source:
            yield f"{file}, which was not used"
        elif now[file] != recorded.source[file]:
            yield f"{file}, which has changed"

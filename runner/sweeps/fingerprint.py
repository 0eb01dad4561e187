"""Fingerprints: digests of what determines the result of a job, by which `resume` finds jobs that are done."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from runner.config.data_settings import LATER, Kind
from runner.config.schema import Config
from runner.engine.numerics import NUMERICS
from runner.execution.sources import first_sources_of
from runner.messages.errors import UserError
from runner.messages.overrides import split_override

NOT_OF_THE_RESULT = (
    "tracking",
    "name",
    "tags",
    "quiet",
    "report",
    "fail_on_divergence",
    "keep_weights",
    "save_weights",
    "parent_run",
    "allow_code",
)


def fingerprint(config: Config) -> str:
    """Return a digest that is equal for runs that would record the same numbers, and only for them."""
    tree = {key: value for key, value in config.tree.items() if key not in NOT_OF_THE_RESULT}
    if tree["engine"] != "compiled":  # the others make the same bits
        del tree["engine"]
    tree["objective"] = {key: value for key, value in tree["objective"].items() if LATER.get(key, ...) != value}
    sources = [first_sources_of(target) for target in config.targets]
    digests = {name: source.digest for found in sources for name, source in found.items()} if sources else None
    return _digest([NUMERICS, tree, digests, *_data_of(config)])


def _data_of(config: Config) -> list[str]:
    """Return the digests of files that may change, and of data that the user's code returns."""
    from runner.objectives.data import digest_of  # import torch
    from runner.objectives.initial import start_digest

    data, start = config.objective.data, start_digest(config.initial_weight)
    found = [] if start is None else [start]
    if data is not None and data.kind is not Kind.NAME:
        with contextlib.suppress(UserError):  # reported when the job is checked
            found.append(digest_of(data))
    return found


def sweep_fingerprint(texts: Sequence[str], study: str | None = None) -> str:
    """Return a digest that is equal for sweeps with the same overrides, in any order, in the same study if any."""
    found = sorted(text for text in texts if split_override(text).root not in NOT_OF_THE_RESULT)
    return _digest(found if study is None else [found, study])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]

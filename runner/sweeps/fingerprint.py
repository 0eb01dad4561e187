"""Fingerprints: digests of what determines the result of a job, by which `resume` finds jobs that are done."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from runner.config.schema import Config
from runner.engine.numerics import NUMERICS
from runner.execution.sources import first_sources_of
from runner.messages.overrides import split_override

NOT_OF_THE_RESULT = (
    "tracking",
    "name",
    "tags",
    "quiet",
    "report",
    "fail_on_divergence",
    "keep_weights",
    "parent_run",
    "allow_code",
)


def fingerprint(config: Config) -> str:
    """Return a digest that is equal for runs that would record the same numbers, and only for them."""
    tree = {key: value for key, value in config.tree.items() if key not in NOT_OF_THE_RESULT}
    target = config.objective.target
    source = _sources_of(target) if config.objective.is_callable and isinstance(target, str) else None
    return _digest([NUMERICS, tree, source])


def _sources_of(target: str) -> dict[str, str]:
    return {name: source.digest for name, source in first_sources_of(target).items()}


def sweep_fingerprint(texts: Sequence[str]) -> str:
    """Return a digest that is equal for sweeps with the same overrides, in any order."""
    return _digest(sorted(text for text in texts if split_override(text).root not in NOT_OF_THE_RESULT))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]

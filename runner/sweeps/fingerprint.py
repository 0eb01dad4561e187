"""Fingerprints: what determines a job's result, so that what is recorded already need not be run again."""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.config import Config

# Raised with every change of the arithmetic, so that results of before are not taken for those of now.
NUMERICS = 4
NOT_OF_THE_RESULT = (
    "tracking",
    "name",
    "tags",
    "quiet",
    "fail_on_divergence",
    "keep_weights",
    "parent_run",
    "allow_code",
)


def fingerprint(config: Config) -> str:
    """Return what two runs share exactly when they would record the same numbers."""
    tree = {key: value for key, value in vars(config).items() if key not in NOT_OF_THE_RESULT}
    tree["log_every"] = config.log_every
    target = config.objective.get("target")
    source = source_of(target) if config.objective["name"] == "callable" and isinstance(target, str) else None
    return _digest([NUMERICS, tree, source])


def sweep_fingerprint(texts: Sequence[str]) -> str:
    """Return what two sweeps share that were written alike, in whatever order."""
    return _digest(sorted(text for text in texts if _key_of(text) not in NOT_OF_THE_RESULT))


def _key_of(text: str) -> str:
    """Return the root key that an override sets."""
    return re.split(r"[=.@]", text.lstrip("+~"), maxsplit=1)[0]


@functools.cache
def source_of(target: str) -> str | None:
    """Return a digest of the module's source that `package.module:function` names; None where there is none."""
    from runner.objectives.imported import look_in_working_directory  # which knows torch

    look_in_working_directory()
    try:
        spec = importlib.util.find_spec(target.partition(":")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]

"""Names and values as MLflow accepts them: refused keys are renamed, too long values are cut with a mark."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from runner.recorder.mlflow_private import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    path_not_unique,
    validate_param_and_metric_name,
)
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics, Shown

LONGEST_NAME = 250
NAME_TAG = "mlflow.runName"
CUT = "... (cut)"
REFUSED = re.compile(r"[^/\w.\- :]")
Value = TypeVar("Value")


def accepted(entry: Entry) -> Entry:
    """Return the entry as MLflow accepts it."""
    match entry:
        case Begin():
            return replace(
                entry,
                name=cut(storable(entry.name) or entry.run, LONGEST_NAME),
                experiment=storable(entry.experiment),
                params=_accepted_texts(entry.params, MAX_PARAM_VAL_LENGTH),
                # MLflow keeps the name of the run in a tag too, which must be the same.
                tags=_accepted_texts({k: v for k, v in entry.tags.items() if k != NAME_TAG}, MAX_TAG_VAL_LENGTH),
            )
        case Artifact():
            return replace(entry, path=_without_refused(entry.path) if path_not_unique(entry.path) else entry.path)
        case Metrics():
            return replace(entry, keys=list(renamed(tuple(entry.keys))))
        case Shown():
            tags = _accepted_texts(entry.tags, MAX_TAG_VAL_LENGTH)
            return replace(entry, tags=tags, experiment_tags={k: storable(v) for k, v in entry.experiment_tags.items()})
        case End():
            return replace(
                entry, results=_accepted_keys(entry.results), tags=_accepted_texts(entry.tags, MAX_TAG_VAL_LENGTH)
            )
    return entry


def cut(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters; a longer one is cut with a mark."""
    return text if len(text) <= longest else text[: longest - len(CUT)] + CUT


def storable(text: str) -> str:
    """Return a text with a mark for each character that some databases cannot store: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


@lru_cache(maxsize=256)
def renamed(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys with `_` for each character that MLflow refuses.

    Different keys stay different: a duplicate gets `_2`, `_3` and so on.
    """
    names = {key: key for key in keys if _is_accepted(key)}
    taken = set(names)
    for key in keys:
        if key not in names:
            names[key] = _untaken(_without_refused(key), taken)
            taken.add(names[key])
    return tuple(names[key] for key in keys)


def _accepted_keys(values: Mapping[str, Value]) -> dict[str, Value]:
    return dict(zip(renamed(tuple(values)), values.values(), strict=True))


def _accepted_texts(values: Mapping[str, str], longest: int) -> dict[str, str]:
    return {key: cut(storable(value), longest) for key, value in _accepted_keys(values).items()}


def _is_accepted(key: str) -> bool:
    is_spelled = validate_param_and_metric_name(key) is not None
    return is_spelled and not path_not_unique(key) and len(key) <= MAX_ENTITY_KEY_LENGTH


def _without_refused(key: str) -> str:
    """Replace refused characters, and path components such as `..`."""
    name = REFUSED.sub("_", key)[:MAX_ENTITY_KEY_LENGTH]
    if name.startswith(".."):
        name = "__" + name[2:]
    parts = ["_" * max(len(part), 1) if part in ("", ".", "..") else part for part in name.split("/")]
    return "/".join(parts)[:MAX_ENTITY_KEY_LENGTH].rstrip("/")


def _untaken(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        suffix = f"_{number}"
        found = name[: MAX_ENTITY_KEY_LENGTH - len(suffix)] + suffix
    return found

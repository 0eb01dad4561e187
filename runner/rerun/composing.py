"""The config of a recorded run, composed again with overrides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from runner.api.settings import as_overrides
from runner.composition import composition
from runner.composition.override_functions import parser
from runner.config.checking import checked_config
from runner.config.plain import plain
from runner.config.schema import GROUPS, Config, Tracking, keys_of
from runner.messages.errors import UserError
from runner.messages.overrides import allows_code, key_of, split_override, without_plus
from runner.messages.ranges import shown
from runner.messages.redaction import HIDDEN, shown_tree
from runner.recorder.reading_back import RecordedRun
from runner.sweeps.fingerprint import NOT_OF_THE_RESULT
from runner.tracking.run_files import SOURCE

Tree = dict[str, Any]
# What the recorded command decided for itself alone.
OF_THE_COMMAND = ("allow_code", "parent_run", "quiet", "report", "tracking")
# Stands for the sweep of a job, which this process does not record.
SWEEP = "recorded"


@dataclass(frozen=True)
class Composed:
    """A config to run.

    Attributes:
        config: records the same steps as the recorded run, unless an override of `log_every` says otherwise.
        overrides: of which `python -m runner` composes it.
        changes: by dotted key, the recorded and the new value of what determines the result.
    """

    config: Config
    overrides: list[str]
    changes: dict[str, tuple[str, str]]


def compose_again(recorded: RecordedRun, overrides: Sequence[str], tracking: Tracking, is_job: bool) -> Composed:
    """Return the config of a recorded run with overrides.

    Overrides of numbers and texts are set in the recorded config, so that files which have changed since change
    nothing. Others, such as the choice of an option of a group, are composed by Hydra after the recorded overrides.

    Args:
        recorded: what the run was composed of.
        overrides: applied after the recorded ones; `allow_code` is taken from here alone.
        tracking: where to record, unless an override says otherwise.
        is_job: whether the run is a job of a sweep.

    Raises:
        UserError: with a line for each mistake, or each secret that is not recorded and not given.
    """
    _check_secrets(recorded, overrides)
    kept = list(_kept(recorded.overrides, overrides))
    settings = _settable(recorded, overrides)
    if settings is None:
        tree = _by_hydra(kept, overrides, tracking)
    else:
        own = {"allow_code": allows_code(overrides), "quiet": False, "tracking": tracking.tree}
        tree = _complete(recorded.tree) | own
        for one in settings:
            _set(tree, one.key_or_group.split("."), one.value())
        if is_job and any(split_override(text).root not in NOT_OF_THE_RESULT for text in overrides):
            tree["name"] = tree["name"] if _names(kept, overrides) else None  # else that of the job as it was
    config = checked_config(tree)
    changes = _changes(recorded.tree, config.tree)
    if is_job and config.log_every is None:
        every = replace(config, parent_run=SWEEP).recorded_every
        config, kept = replace(config, log_every=every), [*kept, f"log_every={every}"]
    return Composed(config, [*kept, *overrides], changes)


def _check_secrets(recorded: RecordedRun, overrides: Sequence[str]) -> None:
    given = {without_plus(key_of(text)) for text in overrides}
    secret = [key for key in recorded.hidden if not key.startswith(f"{SOURCE}/") and key not in given]
    if secret:
        raise UserError(*(f"{key}: expected its value as an override; it is secret and not recorded" for key in secret))


def _kept(recorded: Sequence[str], overrides: Sequence[str]) -> Iterator[str]:
    """Yield the recorded overrides that new ones leave in effect, without those that each command decides anew."""
    replaced = {without_plus(key_of(text)) for text in overrides}
    chosen = tuple(f"{key}." for key in replaced if key in GROUPS)
    for text in recorded:
        key = without_plus(key_of(text))
        is_own = split_override(text).root in OF_THE_COMMAND or key.startswith("hydra")
        if not is_own and key not in replaced and not key.startswith(chosen) and HIDDEN not in text:
            yield text


def _settable(recorded: RecordedRun, overrides: Sequence[str]) -> list[Override] | None:
    """Return the overrides parsed, if each sets one value that the recorded config has; None if any does more."""
    if overrides and any("${" in text for text in (*recorded.overrides, *overrides)):
        return None
    try:
        parsed = parser().parse_overrides(list(overrides))
    except (HydraException, UserError):  # reported by the composition
        return None
    return parsed if all(_sets_a_value(one, recorded.tree) for one in parsed) else None


def _sets_a_value(one: Override, tree: Tree) -> bool:
    is_plain = one.type == OverrideType.CHANGE and one.package is None and not one.is_sweep_override()
    if not is_plain or isinstance(one.value(), dict):
        return False
    place: Any = tree
    for part in one.key_or_group.split("."):
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return not isinstance(place, dict)


def _by_hydra(kept: Sequence[str], overrides: Sequence[str], tracking: Tracking) -> Tree:
    chooses = any(without_plus(key_of(text)) == "tracking" for text in overrides)
    store = [] if chooses else as_overrides({"tracking": tracking.tree}, {}, may_vary=False)
    return plain(composition.compose([*kept, *store, *overrides]))


def _complete(tree: Tree) -> Tree:
    """Return a recorded tree with the defaults of the keys that this version has in addition."""
    missing = [key for key in keys_of(Config) if key not in tree]
    if not missing:
        return dict(tree)
    defaults = plain(composition.compose([]))
    return dict(tree) | {key: defaults[key] for key in missing}


def _set(tree: Tree, path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        tree[part] = dict(tree[part])
        tree = tree[part]
    tree[path[-1]] = value


def _names(*overrides: Sequence[str]) -> bool:
    return any(key_of(text) == "name" for texts in overrides for text in texts)


def _changes(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return by dotted key what differs, as text: the recorded value and the one now."""
    before, after = dict(_leaves(recorded, "")), dict(_leaves(shown_tree(now), ""))
    chosen = {group for group in GROUPS if before.get(f"{group}.name") != after.get(f"{group}.name")}

    def matters(key: str) -> bool:
        root = key.split(".")[0]
        # Another option of a group has other keys, and a later version of the program may have more.
        is_comparable = key in before and key in after if root in chosen else root in recorded
        return is_comparable and root not in NOT_OF_THE_RESULT

    differing = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key) and matters(key)]
    return {key: (before.get(key, "none"), after.get(key, "none")) for key in differing}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, shown(value)

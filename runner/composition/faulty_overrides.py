"""Find the overrides that make a composition fail, so that all mistakes are reported at once."""

from collections.abc import Callable
from typing import TypeAlias

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner.composition.hydra_errors import FILE_ERRORS, OPEN, SWEEP_KEYS, explain
from runner.config.schema import GROUPS
from runner.messages.errors import UserError
from runner.messages.overrides import key_of, split_override
from runner.messages.redaction import shown_override

# Hydra refuses to choose no option of a group that has none chosen; the default says the same.
NO_EFFECT = ("experiment=null",)
Compose: TypeAlias = Callable[[list[str]], DictConfig]


def prepared(overrides: list[str]) -> list[str]:
    """Return overrides as Hydra takes them: with `++` before keys of open mappings, without those of no effect.

    Raises:
        UserError: with a line for each that is not text, or that has a sign before a key of sweeps.
    """
    broken = [text for text in overrides if any("\ud800" <= letter <= "\udfff" for letter in text)]
    if broken:
        raise UserError(*(f"{shown_override(ascii(text)[1:-1])}: expected text in UTF-8" for text in broken))
    signed = [given for given in map(split_override, overrides) if given.sign and f"{given.key}=" in SWEEP_KEYS]
    if signed:
        lines = (
            f"{one.sign}{one.key}: not a key of the config, expected {one.key}=... without {one.sign}" for one in signed
        )
        raise UserError(*lines)
    return [f"++{text}" if text.startswith(OPEN) else text for text in overrides if text not in NO_EFFECT]


def compose_without_faulty(
    compose: Compose, overrides: list[str], missing_option: Callable[[str, str], str], is_sweep: bool = False
) -> tuple[DictConfig | None, list[str]]:
    """Compose without the overrides that are wrong; return the config and a line for each mistake.

    While the composition fails, the override without which its error changes is left out.

    Args:
        compose: composes a config from overrides.
        overrides: all of them.
        missing_option: returns the line for a group and the value given where that is no option.
        is_sweep: keys such as `repeats` are known.

    Returns:
        None in place of the config where it cannot be composed whatever is left out.
    """
    remaining = list(overrides)
    mistakes: list[str] = []
    while True:
        error = _error_of(compose, remaining)
        if not isinstance(error, Exception):
            return error, mistakes
        faulty = _faulty(compose, remaining, error)
        if faulty is not None and _is_missing_option(error):
            given = split_override(faulty)
            mistakes.append(missing_option(given.key, given.value or ""))
        else:
            mistakes.append(explain(error, faulty, is_sweep))
        if faulty is None:
            return None, mistakes
        remaining = _without(remaining, faulty)


def _faulty(compose: Compose, overrides: list[str], error: Exception) -> str | None:
    """Return the first override without which composing gives another result than this error."""
    for override in sorted(overrides, key=_trial_order):
        if str(_error_of(compose, _without(overrides, override))) != str(error):
            return override
    return None


def _trial_order(override: str) -> int:
    """Sort choices of groups, and then Hydra's own settings, last: other overrides depend on them."""
    key = key_of(override)
    return 2 if key.startswith("hydra.") else int(key in (*GROUPS, "experiment") or "/" in key)


def _without(overrides: list[str], left_out: str) -> list[str]:
    return [override for override in overrides if override is not left_out]


def _error_of(compose: Compose, overrides: list[str]) -> Exception | DictConfig:
    try:
        return compose(overrides)
    except (HydraException, OmegaConfBaseException, *FILE_ERRORS) as error:
        return error
    except ValueError as error:
        if "Config group override" not in str(error):  # as in objective=null or objective=5
            raise
        return error


def _is_missing_option(error: Exception) -> bool:
    """Return whether a group has no option, as with objective=null, objective=5 or objective=???."""
    return (isinstance(error, ValueError) and not isinstance(error, FILE_ERRORS)) or "You must specify" in str(error)

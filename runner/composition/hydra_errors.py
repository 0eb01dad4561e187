"""Explains errors of Hydra, OmegaConf and config files in one line."""

import re
import traceback
from typing import Any

import yaml
from hydra.core.utils import configure_log
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from runner.config.options import unknown_key_of_group
from runner.config.schema import Config, keys_of
from runner.messages.errors import UserError, nearest
from runner.messages.overrides import key_of, split_override, without_plus
from runner.messages.redaction import shown_override

OPEN_MAPPINGS = ("tags", "objective.constants", "objective.arguments", "optimizer.arguments")
OPEN = tuple(f"{mapping}{follows}" for mapping in OPEN_MAPPINGS for follows in (".", "={"))
SWEEP_KEYS = ("zip=", "repeats=", "where=", "resume=", "fail_fast=", "max_jobs=")
# Keys of other programs, and the override that each corresponds to.
OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "learningrate", "eta", "step_size", "stepsize"), "lr={}"),
    **dict.fromkeys(("iterations", "iters", "iter", "max_iter", "n_iter", "niter", "num_steps", "n_steps"), "steps={}"),
    **dict.fromkeys(("epochs", "epoch", "num_epochs", "n_epochs", "max_epochs"), "objective.epochs={}"),
    "max_steps": "steps={}",
    **dict.fromkeys(("momentum",), "optimizer=momentum optimizer.momentum={}"),
    **dict.fromkeys(("loss", "function", "problem"), "objective={}"),
    **dict.fromkeys(("optim", "opt", "algorithm", "solver"), "optimizer={}"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), "schedule={}"),
    **dict.fromkeys(("random_seed", "random_state", "rng"), "seed={}"),
    **dict.fromkeys(("x0", "start", "init", "initial", "w0"), "initial_weight={}"),
    **dict.fromkeys(("grad_clip", "gradient_clip", "clip_grad_norm", "max_norm"), "clip_norm={}"),
    **dict.fromkeys(("weight_decay", "wd", "l2"), "optimizer.weight_decay={}"),
}
NUMBER = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?(?:,[^=]*)?")
COLON = re.compile(r"[+~]*[\w./@-]+:[^=]*")
PARENTHESES = re.compile(r"\s*\([^()]*\)\s*")
FILE_ERRORS = (yaml.YAMLError, OSError, UnicodeDecodeError)


def explain(error: Exception, override: str | None = None, is_sweep: bool = False) -> str:
    """Return one line that explains an error of Hydra, OmegaConf or a file."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    override = None if override is None else _as_typed(shown_override(override))
    if override is not None and (line := _wrong_sign(str(error), override)):
        return line
    if isinstance(error, FILE_ERRORS) and not isinstance(error, HydraException):
        return _explain_file(error, override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = sorted(error.options)
        return f"{group}={name}: expected one of {', '.join(options)}{nearest(name, options)}"
    if isinstance(error, OverrideParseException) and isinstance(error.__cause__, UserError):
        return f"{error.override.partition('=')[0]}={error.__cause__.lines[0]}"
    if isinstance(error, OverrideParseException):
        return _explain_override(error)
    if isinstance(error.__cause__, UserError):
        return "; ".join(error.__cause__.lines)
    if override is not None and override.startswith(SWEEP_KEYS):
        return f"{override}: is for sweeps: add -m"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        line = unknown_key_of_group(str(cause.full_key), _value_in(override), _known_keys(cause, is_sweep))
        return f"{line.partition('; did you mean')[0]}{hint}" if (hint := _other_name(override)) else line
    if override is not None and ("requires --multirun" in str(error) or "Ambiguous value" in str(error)):
        return f"{override}: several values make a sweep: add -m; a list is written [1,2]"
    if isinstance(cause, OmegaConfBaseException):
        return f"{override or 'the config'}: not a value that this key takes ({str(cause).splitlines()[0]})"
    return " ".join(str(cause).split("\nConfig search path")[0].split())


def explain_logging(error: Exception) -> str | None:
    """Return one line for an error in setting up logging, None for any other error."""
    if not any(frame.f_code is configure_log.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)):
        return None
    reason = " ".join(str(error.__cause__ or error).split())
    settings = "hydra.job_logging, hydra.hydra_logging, hydra.verbose"
    return f"{settings}: cannot set up logging ({reason or 'expected true, false or names of loggers'})"


def _explain_file(error: Exception, override: str | None) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: not valid YAML ({error.problem})"
    what = "a config file" if override is None else override
    return f"{what}: its file cannot be read ({' '.join(str(error).split())})"


def _other_name(override: str | None) -> str:
    """Return a hint for a key that other programs use; empty where there is none."""
    given = split_override(override or "")
    meant = OTHER_NAMES.get(given.key.lower().replace("-", "_"))
    return "" if meant is None else f"; did you mean '{meant.format(given.value or '')}'?"


def _explain_override(error: OverrideParseException) -> str:
    if (mistake := _typing_mistake(error.override)) is not None:
        return f"'{_as_typed(shown_override(error.override))}': not a valid override, {mistake}"
    reason = _first_line(error, skip="Error parsing override")
    if reason.startswith("Lexer"):
        reason = "no space around the =, and quotes around special characters, as in 'name=\"a b\"'"
    given = shown_override(error.override)
    if given != error.override:
        reason = "it holds a secret"  # the parser's message may quote it
    return f"'{_as_typed(given)}': not a valid override, expected key=value ({reason})"


def _typing_mistake(override: str) -> str | None:
    """Return the explanation of a common typing mistake, None for any other."""
    key, equals, value = override.partition("=")
    if not equals:
        if NUMBER.fullmatch(override.strip(", ")):
            return "a space after a comma ends an argument, expected key=0.1,0.2 without spaces"
        if COLON.fullmatch(override):
            return f"expected = between key and value, as in {override.replace(':', '=', 1)}"
        return None
    if value.lstrip().startswith(","):
        return f"a comma before the first value: expected another value, or {key}={value.lstrip(', ')}"
    if PARENTHESES.fullmatch(value):
        values = value.strip("() ")
        return f"parentheses are for functions: expected {key}={values} for several values, {key}=[{values}] for a list"
    if value.rstrip().endswith(","):
        return f"a comma at the end: expected another value, or {key}={value.rstrip(', ')}"
    if "=" in value and not set("'\"\\[{(") & set(value):
        return f"the value holds a =, which needs quotes, as in \"{key}='{value}'\"; settings are separated by spaces"
    return None


def _wrong_sign(reason: str, override: str) -> str | None:
    """Return the line for an override whose `+`, `++` or `~` does not fit the config, or that has no key."""
    key = key_of(override)
    if not key:
        return f"'{override}': not a valid override, expected key=value"
    if reason.startswith(("Could not append", "Multiple values for")):
        return f"{override}: the key {key} exists already, expected {without_plus(override)}"
    if reason.startswith("Could not delete"):
        return f"{override}: no such key with a value to delete{nearest(key, keys_of(Config))}"
    return None


def _known_keys(cause: ConfigAttributeError | ConfigKeyError, is_sweep: bool) -> list[str]:
    parent = str(cause.full_key).rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    own = [key.rstrip("=") for key in SWEEP_KEYS] if is_sweep and not parent else []
    return [f"{prefix}{key}" for key in cause.parent_node or () if key != "hydra"] + own


def _value_in(override: str | None) -> Any:
    return None if override is None else split_override(override).value or ""


def _first_line(error: Exception, skip: str) -> str:
    return next(line for line in str(error).splitlines() if line.strip() and not line.startswith(skip))


def _as_typed(override: str) -> str:
    return override[2:] if override.startswith(tuple(f"++{key}" for key in OPEN)) else override

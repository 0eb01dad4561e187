"""Checks of the overrides of a run or sweep, as the user typed them."""

import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from runner.composition.number_ranges import MOST_JOBS, count_of, counted, nested
from runner.config.hydra_private import BASIC_SWEEPER
from runner.messages.errors import UserError
from runner.messages.overrides import key_of
from runner.messages.redaction import shown_override

RUNNER_SWEEPERS = ("hydra_plugins.runner.GridSweeper", "hydra_plugins.runner.SearchSweeper")


def task_overrides(cfg: DictConfig) -> list[str]:
    """Return the overrides of the task that a config was composed from, interpolations unresolved."""
    texts = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def check_nesting(typed: Sequence[str], parser: OverridesParser) -> None:
    """Check that no sweep such as linspace(0,1,5) is nested in another value, which Hydra does not support.

    Raises:
        UserError: with a line for each override that nests one.
    """
    try:
        parsed = parser.parse_overrides(list(typed))
    except HydraException:  # reported by the composition
        return
    lines = [nested(shown_override(text), one) for text, one in zip(typed, parsed, strict=True)]
    if found := [line for line in lines if line is not None]:
        raise UserError(*found)


def use_typed_overrides(cfg: DictConfig, typed: Sequence[str], composed: Sequence[str]) -> None:
    """Give the sweeper the overrides as typed, in place of the prepared ones that the config was composed from."""
    task = task_overrides(cfg)
    from_files = task[: len(task) - sum(not _is_of_hydra(text) for text in composed)]
    cfg.hydra.overrides.task = [*from_files, *(text for text in typed if not _is_of_hydra(text))]


def sweeper_mistakes(cfg: DictConfig, typed: Sequence[str], parser: OverridesParser) -> Iterator[str]:
    """Yield a line for each override that a sweeper other than the runner's would drop, or make too many jobs of."""
    target = cfg.hydra.sweeper.get("_target_")
    if target in RUNNER_SWEEPERS:
        return
    params = OmegaConf.to_container(cfg.hydra.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    assert isinstance(params, dict)
    parsed = parser.parse_overrides([*(f"{key!s}={value}" for key, value in params.items()), *typed])
    yield from _dropped(parsed)
    if target == BASIC_SWEEPER:
        yield from _too_many(parsed)


def _too_many(parsed: Sequence[Override]) -> Iterator[str]:
    counts = {one.get_key_element(): count_of(one) for one in parsed}
    jobs = math.prod(counts.values())
    if jobs > MOST_JOBS:
        keys = " x ".join(f"{key} {counted(count)}" for key, count in counts.items() if count > 1)
        yield f"{keys}: {counted(jobs)} jobs, expected at most {MOST_JOBS:,}"
    yield from (f"{key}: expected at least one value" for key, count in counts.items() if count == 0)


def _dropped(parsed: Sequence[Override]) -> Iterator[str]:
    """Yield a line for each mapping that follows another for the same key: Hydra's sweepers use only the last."""
    given: dict[str, str] = {}
    for one in parsed:
        text = shown_override(one.input_line or "")
        first = given.setdefault(one.get_key_element(), text)
        if isinstance(one.value(), dict) and first is not text:
            yield f"{text}: expected one mapping with {first}, which this sweeper would drop"


def _is_of_hydra(override: str) -> bool:
    return key_of(override).startswith(("hydra.", "hydra/"))

"""The overrides of what is run, as a sweeper reads them: as they were typed, in their order."""

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

OUR_SWEEPER = "hydra_plugins.runner.GridSweeper"


def task_overrides(cfg: DictConfig) -> list[str]:
    """Return them, interpolations as they are written."""
    texts = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def check_values(typed: Sequence[str], parser: OverridesParser) -> None:
    """Check that nothing to sweep over stands within a value, where Hydra would fail in one way or another.

    Raises:
        UserError: with a line for each override in which it does.
    """
    try:
        parsed = parser.parse_overrides(list(typed))
    except HydraException:  # told when all is composed
        return
    lines = [nested(shown_override(text), one) for text, one in zip(typed, parsed, strict=True)]
    if found := [line for line in lines if line is not None]:
        raise UserError(*found)


def let_sweeper_read(cfg: DictConfig, typed: Sequence[str], composed: Sequence[str]) -> None:
    """Set what was typed in the stead of what was composed of it."""
    task = task_overrides(cfg)
    theirs = task[: len(task) - sum(not _is_of_hydra(text) for text in composed)]  # of a config file that is trusted
    cfg.hydra.overrides.task = [*theirs, *(text for text in typed if not _is_of_hydra(text))]


def beyond_sweeper(cfg: DictConfig, typed: Sequence[str], parser: OverridesParser) -> Iterator[str]:
    """Yield a line for what another sweeper than ours would drop, or make without end."""
    target = cfg.hydra.sweeper.get("_target_")
    if target == OUR_SWEEPER:
        return
    params = OmegaConf.to_container(cfg.hydra.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    assert isinstance(params, dict)
    parsed = parser.parse_overrides([*(f"{key!s}={value}" for key, value in params.items()), *typed])
    yield from _lost(parsed)
    if target == BASIC_SWEEPER:
        yield from _too_many(parsed)


def _too_many(parsed: Sequence[Override]) -> Iterator[str]:
    counts = {one.get_key_element(): count_of(one) for one in parsed}
    jobs = math.prod(counts.values())
    if jobs > MOST_JOBS:
        keys = " x ".join(f"{key} {counted(count)}" for key, count in counts.items() if count > 1)
        yield f"{keys}: {counted(jobs)} jobs, expected at most {MOST_JOBS:,}"
    yield from (f"{key}: expected at least one value" for key, count in counts.items() if count == 0)


def _lost(parsed: Sequence[Override]) -> Iterator[str]:
    """Yield a line for each mapping to be merged into one of the same key, of which Hydra's sweepers take the last."""
    given: dict[str, str] = {}
    for one in parsed:
        text = shown_override(one.input_line or "")
        first = given.setdefault(one.get_key_element(), text)
        if isinstance(one.value(), dict) and first is not text:
            yield f"{text}: expected one mapping with {first}, which this sweeper would drop"


def _is_of_hydra(override: str) -> bool:
    return key_of(override).startswith(("hydra.", "hydra/"))

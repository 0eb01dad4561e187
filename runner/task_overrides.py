"""The overrides of what is run, as a sweeper reads them: as they were typed, in their order."""

from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from runner.hiding import shown_override

OUR_SWEEPER = "hydra_plugins.runner.GridSweeper"


def task_overrides(cfg: DictConfig) -> list[str]:
    """Return them, interpolations as they are written."""
    texts = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def let_sweeper_read(cfg: DictConfig, typed: Sequence[str], composed: Sequence[str]) -> None:
    """Set what was typed in the stead of what was composed of it."""
    task = task_overrides(cfg)
    theirs = task[: len(task) - sum(not _is_of_hydra(text) for text in composed)]  # of a config file that is trusted
    cfg.hydra.overrides.task = [*theirs, *(text for text in typed if not _is_of_hydra(text))]


def lost_by_sweeper(cfg: DictConfig, parsed: Sequence[Override]) -> Iterator[str]:
    """Yield a line for each mapping to be merged into one of the same key, of which Hydra's sweepers take the last."""
    if cfg.hydra.sweeper.get("_target_") == OUR_SWEEPER:
        return
    given: dict[str, str] = {}
    for one in parsed:
        text = shown_override(one.input_line or "")
        first = given.setdefault(one.get_key_element(), text)
        if isinstance(one.value(), dict) and first is not text:
            yield f"{text}: expected one mapping with {first}, which this sweeper would drop"


def _is_of_hydra(override: str) -> bool:
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))

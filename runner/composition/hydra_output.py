"""Hides secrets in the configs that Hydra prints and in the files that it writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.folders import WRITTEN, write_new
from runner.config.hydra_private import replace_failure_message, replace_file_writer
from runner.config.omegaconf_private import original_save, original_to_yaml, replace_writers
from runner.messages.printing import print_error
from runner.messages.redaction import shown_override, shown_tree, without_noted


def redact_output() -> None:
    """Hide secrets in what Hydra prints for --cfg and writes to `hydra.output_subdir` and `multirun.yaml`."""
    replace_file_writer(_save_config)
    replace_failure_message(_show_failed)
    replace_writers(_to_yaml, _save)


def _save_config(cfg: Any, filename: str, output_dir: Path) -> None:
    write_new(output_dir / filename, WRITTEN + OmegaConf.to_yaml(cfg))


def _show_failed(overrides: Sequence[str]) -> None:
    print_error(f"Error executing job with overrides: {[shown_override(text) for text in overrides]}")


def _to_yaml(cfg: Any, *, resolve: bool = False, sort_keys: bool = False) -> str:
    return original_to_yaml(shown_config(cfg, resolve), sort_keys=sort_keys)


def _save(config: Any, f: Any, resolve: bool = False) -> None:
    if isinstance(f, str | Path):
        write_new(Path(f), WRITTEN + OmegaConf.to_yaml(config, resolve=resolve))
    else:
        original_save(shown_config(config), f, resolve)


def shown_config(cfg: Any, resolve: bool = False) -> Any:
    """Return a config with its secrets hidden; texts in lists are taken as overrides."""
    return OmegaConf.create(_shown(shown_tree(OmegaConf.to_container(cfg, resolve=resolve))))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(shown_override(item) if isinstance(item, str) else item) for item in value]
    return without_noted(value) if isinstance(value, str) else value

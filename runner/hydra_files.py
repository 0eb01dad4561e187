"""What Hydra prints of a config, and the files that it writes when it is asked to: without what is secret in them."""

from pathlib import Path
from typing import Any

import hydra.core.utils as hydra_utils
from omegaconf import OmegaConf

from runner.hiding import shown_override, shown_tree
from runner.places import WRITTEN, write_new

_omegaconfs_save = OmegaConf.save
_omegaconfs_to_yaml = OmegaConf.to_yaml


def hide_from_files() -> None:
    """Make Hydra show configs as they may be seen: by --cfg, in `hydra.output_subdir` and in `multirun.yaml`."""
    hydra_utils._save_config = _save_config
    OmegaConf.to_yaml = staticmethod(_to_yaml)  # type: ignore[method-assign]
    OmegaConf.save = staticmethod(_save)  # type: ignore[method-assign]


def _save_config(cfg: Any, filename: str, output_dir: Path) -> None:
    write_new(output_dir / filename, WRITTEN + OmegaConf.to_yaml(cfg))


def _to_yaml(cfg: Any, *, resolve: bool = False, sort_keys: bool = False) -> str:
    return _omegaconfs_to_yaml(shown_config(cfg, resolve), sort_keys=sort_keys)


def _save(config: Any, f: Any, resolve: bool = False) -> None:
    if isinstance(f, str | Path):
        write_new(Path(f), WRITTEN + OmegaConf.to_yaml(config, resolve=resolve))
    else:
        _omegaconfs_save(shown_config(config), f, resolve)


def shown_config(cfg: Any, resolve: bool = False) -> Any:
    """Return a config without what is secret in it; overrides stand in lists."""
    return OmegaConf.create(_shown(shown_tree(OmegaConf.to_container(cfg, resolve=resolve))))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shown_override(item) if isinstance(item, str) else _shown(item) for item in value]
    return value

"""What Hydra prints of a config, and the files that it writes when it is asked to: without what is secret in them."""

from pathlib import Path
from typing import Any

import hydra.core.utils as hydra_utils
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from runner.config.folders import WRITTEN, write_new
from runner.messages.printing import complain
from runner.messages.redaction import shown_override, shown_tree, without_noted

_omegaconfs_save = OmegaConf.save
_omegaconfs_to_yaml = OmegaConf.to_yaml
_hydras_own: Any = JobReturn.return_value


def hide_from_files() -> None:
    """Make Hydra show configs as they may be seen: by --cfg, in `hydra.output_subdir` and in `multirun.yaml`."""
    hydra_utils._save_config = _save_config
    hydra_utils.JobReturn.return_value = property(_return_value, _hydras_own.fset)  # type: ignore[method-assign, assignment]
    OmegaConf.to_yaml = staticmethod(_to_yaml)  # type: ignore[method-assign]
    OmegaConf.save = staticmethod(_save)  # type: ignore[method-assign]


def _save_config(cfg: Any, filename: str, output_dir: Path) -> None:
    write_new(output_dir / filename, WRITTEN + OmegaConf.to_yaml(cfg))


def _return_value(done: JobReturn) -> Any:
    """Return what a job returned, or raise what it raised, as Hydra does, which heads that with its overrides."""
    if done.status is JobStatus.FAILED:
        complain(f"Error executing job with overrides: {[shown_override(text) for text in done.overrides or ()]}")
        raise done._return_value
    return _hydras_own.fget(done)


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
        return [_shown(shown_override(item) if isinstance(item, str) else item) for item in value]
    return without_noted(value) if isinstance(value, str) else value

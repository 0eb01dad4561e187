"""Resolves interpolations such as `${hydra:job.name}` from the config itself instead of Hydra's global state.

Hydra sets that state when a job begins. Configs are checked, and the jobs of a sweep planned, before.
"""

import copy
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from runner.config.interpolation import guard
from runner.messages.ranges import shown

RESOLVER = re.compile(r"(?<!\\)\$\{hydra:")
REFERENCE = re.compile(r"(?<!\\)\$\{hydra[:.]")


def with_hydra_values(cfg: DictConfig, is_job: bool = False) -> DictConfig:
    """Return a copy of a config that has the values of Hydra that it refers to; the config itself where it has none.

    Args:
        cfg: a composed config; not changed.
        is_job: a job of a sweep that its launcher has not numbered yet; it counts as the first.
    """
    if not refers_to_hydra(cfg):
        return cfg
    cfg = copy.deepcopy(cfg)
    if "hydra" not in cfg and HydraConfig.initialized():  # Hydra removes it from the config of a task
        with open_dict(cfg):
            cfg["hydra"] = HydraConfig.get()
        guard(cfg)
    if "hydra" in cfg:
        use_own_hydra(cfg)
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            if is_job and OmegaConf.is_missing(cfg.hydra.job, "num"):
                cfg.hydra.job.num, cfg.hydra.job.id = 0, "0"
            if OmegaConf.is_missing(cfg.hydra.runtime, "output_dir"):
                cfg.hydra.runtime.output_dir = _output_dir(cfg, is_job)
    return cfg


def refers_to_hydra(cfg: DictConfig) -> bool:
    """Return whether a key of the runner refers to a value of Hydra."""
    return any(key != "hydra" and _refers(_unresolved(value)) for key, value in cfg.items_ex(resolve=False))


def use_own_hydra(cfg: DictConfig) -> None:
    """Rewrite `${hydra:...}` to `${hydra....}`, which refers to the key `hydra` of the config, not to Hydra's state."""
    with read_write(cfg.hydra):
        _rewrite(cfg, _unresolved(cfg))


def changed_sweep_settings(cfg: DictConfig, master: DictConfig) -> Iterator[str]:
    """Yield a line for each setting of the sweeper or launcher that a job's config changes: too late for its sweep."""
    alone = "not allowed in a file that is swept over, expected on the command line, or a sweep with this file alone"
    for part in ("sweeper", "launcher"):
        group = f"hydra/{part}"
        if (choice := cfg.hydra.runtime.choices.get(group)) != master.hydra.runtime.choices.get(group):
            yield f"{group}={choice}: {alone}"
            continue
        jobs_settings, sweeps_settings = (
            dict(_leaves(_unresolved(config.hydra[part]), f"hydra.{part}")) for config in (cfg, master)
        )
        yield from (
            f"{path}={shown(value)}: {alone}"
            for path, value in jobs_settings.items()
            if sweeps_settings.get(path) != value
        )


def set_job_number(cfg: DictConfig, job: int) -> None:
    """Set the number of a sweep's job in its config, as Hydra's launchers do."""
    use_own_hydra(cfg)
    OmegaConf.update(cfg, "hydra.job.num", job)
    OmegaConf.update(cfg, "hydra.job.id", str(job))
    set_output_dir(cfg)


def configure_logging(master: DictConfig) -> None:
    """Configure logging for jobs that run in one process, from the config of their sweep."""
    cfg = copy.deepcopy(master)
    with read_write(cfg.hydra):
        folder = Path(str(OmegaConf.select(cfg, "hydra.sweep.dir"))).absolute()
        OmegaConf.update(cfg, "hydra.runtime.output_dir", str(folder))
    if any("filename" in handler for handler in (cfg.hydra.job_logging.get("handlers") or {}).values()):
        folder.mkdir(parents=True, exist_ok=True)
    configure_log(cfg.hydra.job_logging, cfg.hydra.verbose)


def job_values(cfg: DictConfig, number: int, overrides: Iterable[Override]) -> dict[str, Any]:
    """Return, by path, the values that Hydra sets in the config of a sweep's job."""
    given, naming = list(overrides), cfg.hydra.job.config.override_dirname
    named = sorted(override.input_line or "" for override in given if override.key_or_group not in naming.exclude_keys)
    dirname = naming.item_sep.join(named).replace("=", naming.kv_sep)
    return {
        "hydra.job.num": number,
        "hydra.job.id": str(number),
        "hydra.job.override_dirname": _own_references(dirname),
        "hydra.overrides.task": [_own_references(override.input_line or "") for override in given],
    }


def set_output_dir(cfg: DictConfig) -> None:
    """Set the output folder that Hydra gives a numbered job of a sweep."""
    guard(cfg)  # also what was set since
    OmegaConf.update(cfg, "hydra.runtime.output_dir", _output_dir(cfg, is_job=True))


def _output_dir(cfg: DictConfig, is_job: bool) -> str:
    parts = ["hydra.sweep.dir", "hydra.sweep.subdir"] if is_job else ["hydra.run.dir"]
    return os.path.abspath(os.path.join(*(str(OmegaConf.select(cfg, part)) for part in parts)))  # noqa: PTH100, PTH118


def _refers(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_refers, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and REFERENCE.search(value) is not None


def _rewrite(config: Any, written: Any) -> None:
    """Rewrite the texts of a config; `written` is the same config in plain containers, unresolved."""
    for key, value in written.items() if isinstance(written, dict) else enumerate(written):
        if isinstance(value, dict | list):
            _rewrite(config[key], value)
        elif isinstance(value, str) and RESOLVER.search(value):
            config[key] = _own_references(value)


def _own_references(text: str) -> str:
    return RESOLVER.sub("${hydra.", text)


def _unresolved(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else cfg


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}")

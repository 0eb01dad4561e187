"""Values that a config takes from Hydra, as in `${hydra:job.name}`, read from the config's own hydra part.

Hydra sets its global state only when a job begins; configs are checked and sweeps planned before that.
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

from runner.config import environment
from runner.messages.ranges import shown

RESOLVER = re.compile(r"(?<!\\)\$\{hydra:")
REFERENCE = re.compile(r"(?<!\\)\$\{hydra[:.]")


def known(cfg: DictConfig, is_job: bool = False) -> DictConfig:
    """Return a copy of a config in which references to Hydra resolve; the config itself where there are none.

    Args:
        cfg: composed; not changed.
        is_job: whether it is a job of a sweep, to which the launcher gives a number later; 0 until then.
    """
    if not takes_from_hydra(cfg):
        return cfg
    cfg = copy.deepcopy(cfg)
    if "hydra" not in cfg and HydraConfig.initialized():  # Hydra removes it from the config of a task
        with open_dict(cfg):
            cfg["hydra"] = HydraConfig.get()
        environment.own(cfg)
    if "hydra" in cfg:
        settle(cfg)
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            if is_job and OmegaConf.is_missing(cfg.hydra.job, "num"):
                cfg.hydra.job.num, cfg.hydra.job.id = 0, "0"
            if OmegaConf.is_missing(cfg.hydra.runtime, "output_dir"):
                cfg.hydra.runtime.output_dir = _output_dir(cfg, is_job)
    return cfg


def takes_from_hydra(cfg: DictConfig) -> bool:
    """Return whether any key outside the hydra part refers to it."""
    return any(key != "hydra" and _refers(_unresolved(value)) for key, value in cfg.items_ex(resolve=False))


def settle(cfg: DictConfig) -> None:
    """Rewrite references to Hydra so that they resolve in the config itself, not in Hydra's global state."""
    with read_write(cfg.hydra):
        _rewrite(cfg, _unresolved(cfg))


def too_late(cfg: DictConfig, master: DictConfig) -> Iterator[str]:
    """Yield a line for each setting of the sweeper or launcher that a job's config changes, when both already run."""
    alone = (
        "a file that is itself varied cannot say so, expected it on the command line, or a sweep with that file alone"
    )
    for part in ("sweeper", "launcher"):
        group = f"hydra/{part}"
        if (choice := cfg.hydra.runtime.choices.get(group)) != master.hydra.runtime.choices.get(group):
            yield f"{group}={choice}: {alone}"
            continue
        ours, sweeps = (dict(_leaves(_unresolved(config.hydra[part]), f"hydra.{part}")) for config in (cfg, master))
        yield from (f"{path}={shown(value)}: {alone}" for path, value in ours.items() if sweeps.get(path) != value)


def number(cfg: DictConfig, job: int) -> None:
    """Set the number of a sweep's job in its config, as Hydra's launchers do."""
    settle(cfg)
    OmegaConf.update(cfg, "hydra.job.num", job)
    OmegaConf.update(cfg, "hydra.job.id", str(job))
    set_output_dir(cfg)


def log_as_asked(master: DictConfig) -> None:
    """Set up logging for jobs that run in this process, as the config of their sweep says."""
    cfg = copy.deepcopy(master)
    with read_write(cfg.hydra):
        folder = Path(str(OmegaConf.select(cfg, "hydra.sweep.dir"))).absolute()
        OmegaConf.update(cfg, "hydra.runtime.output_dir", str(folder))
    if any("filename" in handler for handler in (cfg.hydra.job_logging.get("handlers") or {}).values()):
        folder.mkdir(parents=True, exist_ok=True)
    configure_log(cfg.hydra.job_logging, cfg.hydra.verbose)


def of_job(cfg: DictConfig, number: int, overrides: Iterable[Override]) -> dict[str, Any]:
    """Return, by path, the values that Hydra would set in the hydra part of a job's config."""
    given, naming = list(overrides), cfg.hydra.job.config.override_dirname
    named = sorted(override.input_line or "" for override in given if override.key_or_group not in naming.exclude_keys)
    dirname = naming.item_sep.join(named).replace("=", naming.kv_sep)
    return {
        "hydra.job.num": number,
        "hydra.job.id": str(number),
        "hydra.job.override_dirname": _settled(dirname),
        "hydra.overrides.task": [_settled(override.input_line or "") for override in given],
    }


def set_output_dir(cfg: DictConfig) -> None:
    """Set the output folder that Hydra would give a numbered job of a sweep."""
    environment.own(cfg)  # values set since then get our classes too
    OmegaConf.update(cfg, "hydra.runtime.output_dir", _output_dir(cfg, is_job=True))


def _output_dir(cfg: DictConfig, is_job: bool) -> str:
    parts = ["hydra.sweep.dir", "hydra.sweep.subdir"] if is_job else ["hydra.run.dir"]
    return os.path.abspath(os.path.join(*(str(OmegaConf.select(cfg, part)) for part in parts)))  # noqa: PTH100, PTH118


def _refers(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_refers, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and REFERENCE.search(value) is not None


def _rewrite(config: Any, written: Any) -> None:
    """Rewrite the texts in a config; `written` is the same config unresolved, in plain containers."""
    for key, value in written.items() if isinstance(written, dict) else enumerate(written):
        if isinstance(value, dict | list):
            _rewrite(config[key], value)
        elif isinstance(value, str) and RESOLVER.search(value):
            config[key] = _settled(value)


def _settled(text: str) -> str:
    return RESOLVER.sub("${hydra.", text)


def _unresolved(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else cfg


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}")

"""What a config takes from Hydra, as `${hydra:job.name}`: found beside it, not in Hydra's state of the whole process.

Hydra sets that state once a job has begun. Configs are checked, and a sweep's jobs planned, before that.
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
    """Return a config with what it takes from Hydra at hand; itself where it takes nothing.

    Args:
        cfg: composed; left as it is.
        is_job: of a sweep, whose launcher will number it; here it is the first.
    """
    if not takes_from_hydra(cfg):
        return cfg
    cfg = copy.deepcopy(cfg)
    if "hydra" not in cfg and HydraConfig.initialized():  # Hydra gives a task its config without
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
    """Return whether some key of ours is made of Hydra's."""
    return any(key != "hydra" and _refers(_unresolved(value)) for key, value in cfg.items_ex(resolve=False))


def settle(cfg: DictConfig) -> None:
    """Let a config's keys find Hydra's part of it by themselves, whatever is set in Hydra."""
    with read_write(cfg.hydra):
        _rewrite(cfg, _unresolved(cfg))


def too_late(cfg: DictConfig, master: DictConfig) -> Iterator[str]:
    """Yield a line for each setting of who sweeps, what and how that the config of a job changes: it runs already."""
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
    """Give the config of a sweep's job its number, as Hydra's launchers do."""
    settle(cfg)
    OmegaConf.update(cfg, "hydra.job.num", job)
    OmegaConf.update(cfg, "hydra.job.id", str(job))
    set_output_dir(cfg)


def log_as_asked(master: DictConfig) -> None:
    """Set up the logging of jobs that run in one process, from the config of their sweep."""
    cfg = copy.deepcopy(master)
    with read_write(cfg.hydra):
        folder = Path(str(OmegaConf.select(cfg, "hydra.sweep.dir"))).absolute()
        OmegaConf.update(cfg, "hydra.runtime.output_dir", str(folder))
    if any("filename" in handler for handler in (cfg.hydra.job_logging.get("handlers") or {}).values()):
        folder.mkdir(parents=True, exist_ok=True)
    configure_log(cfg.hydra.job_logging, cfg.hydra.verbose)


def of_job(cfg: DictConfig, number: int, overrides: Iterable[Override]) -> dict[str, Any]:
    """Return, by path, what Hydra would set in its part of the config of a sweep's job."""
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
    """Set the folder that Hydra would give a numbered job of a sweep."""
    environment.own(cfg)  # what has been set in it, too
    OmegaConf.update(cfg, "hydra.runtime.output_dir", _output_dir(cfg, is_job=True))


def _output_dir(cfg: DictConfig, is_job: bool) -> str:
    parts = ["hydra.sweep.dir", "hydra.sweep.subdir"] if is_job else ["hydra.run.dir"]
    return os.path.abspath(os.path.join(*(str(OmegaConf.select(cfg, part)) for part in parts)))  # noqa: PTH100, PTH118


def _refers(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_refers, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and REFERENCE.search(value) is not None


def _rewrite(config: Any, written: Any) -> None:
    """Rewrite the texts in a config, given also as it is written, in plain containers."""
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

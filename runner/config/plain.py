"""Converts composed configs to plain containers, resolved or unresolved."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config import hydra_values, interpolation
from runner.messages.errors import UserError
from runner.messages.ranges import shown


def plain(cfg: DictConfig, is_job: bool = False) -> dict[str, Any]:
    """Return a composed config as resolved plain containers, without the key `hydra`.

    Args:
        cfg: has the key `hydra`, or is the config of the job that Hydra runs now.
        is_job: a job of a sweep that its launcher has not numbered yet.

    Raises:
        UserError: an interpolation cannot be resolved.
    """
    raw = unresolved(interpolation.guard(cfg))
    cfg = interpolation.guard(hydra_values.with_hydra_values(cfg, is_job))
    tree: dict[str, Any] = {}
    with interpolation.resolution():
        for key in cfg:
            if key == "hydra":
                continue
            try:
                tree[str(key)] = interpolation.resolved(cfg, key, raw[str(key)], is_text=key == "tags")
            except OmegaConfBaseException as error:
                raise UserError(_explain_interpolation(error, str(key), raw)) from None
    return tree


def plain_at(cfg: DictConfig, path: str, written: Any) -> Any:
    """Return the value that `plain` has at a path; `written` is the unresolved value there.

    Raises:
        OmegaConfBaseException: it cannot be resolved.
    """
    above, _, key = path.rpartition(".")
    parent = OmegaConf.select(cfg, above) if above else cfg
    with interpolation.resolution():
        return interpolation.resolved(parent, key, written, is_text=path.split(".")[0] == "tags")


def hidden_at(cfg: DictConfig, path: str, written: Any) -> Any:
    """Return the value at a path, with texts and numbers that come from the environment as hidden texts.

    None where it cannot be resolved; `plain` raises the error.
    """
    above, _, key = path.rpartition(".")
    try:
        with interpolation.resolution():
            return interpolation.resolved(OmegaConf.select(cfg, above) if above else cfg, key, written, is_text=True)
    except OmegaConfBaseException:
        return None


def _explain_interpolation(error: OmegaConfBaseException, key: str, raw: Any) -> str:
    path = error.full_key or key
    value = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else value
    reason = str(error).splitlines()[0]
    if reason.endswith(("hydra.job.num", "hydra.job.id")):
        reason = "a single run has no job number: add -m"
    if reason.startswith("Recursive") and "override_dirname" in str(value):
        reason = f"which contains this key; exclude it with hydra.job.config.override_dirname.exclude_keys=[{path}]"
    return f"{path}={shown(value)}: cannot be resolved ({reason})"


def unresolved(cfg: Any) -> dict[str, Any]:
    """Return a config as unresolved plain containers; empty where it is not a mapping."""
    tree = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else None
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}

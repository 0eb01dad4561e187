"""What a node must have to execute shards like the driver, and what of a config stays with the driver."""

import os
import platform
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.config.data_settings import DataSettings, Kind, kind_of
from runner.config.schema import Config
from runner.messages.errors import RunnerError, UserError, one_line
from runner.messages.redaction import HIDDEN, shown_text, shown_tree
from runner.recorder.reachability import unreachable

if TYPE_CHECKING:
    from runner.engine.batches import Member

# Where nodes differ in these, the digits of their runs may differ.
HARDWARE = ("torch", "vectors")


def targets_of(groups: "Sequence[Sequence[Member]]") -> list[str]:
    """Return the users' functions, by name, and data files that runs need."""
    return sorted({need for group in groups for member in group[:1] for need in _needs(member.config)})


def _needs(config: Config) -> tuple[str, ...]:
    data = config.objective.data
    files = () if data is None or data.kind is not Kind.FILE else (data.dataset,)
    return config.targets + files


def check_arguments(groups: "Sequence[Sequence[Member]]", why: str) -> None:
    """Check that no argument of a user's function is a secret; `why` says where it would go.

    Raises:
        UserError: one is.
    """
    for config in (member.config for group in groups for member in group):
        for key, value in (config.objective.parameters.get("arguments") or {}).items():
            if shown_tree({key: value}) != {key: value}:
                given = f"objective.arguments.{key}={HIDDEN}"
                raise UserError(f"{given}: {why}, expected the function to read it from the environment")


def without_secrets(config: Config) -> Config:
    """Return a config without the passwords and tokens that only the driver needs, to record runs."""
    uri = config.tracking.uri
    tracking = replace(config.tracking, uri=None if uri is None else shown_text(uri))
    return replace(config, tracking=tracking, tags=shown_tree(config.tags))


def description(targets: Sequence[str], folder: str | None, store: str | None = None) -> dict[str, str]:
    """Return what a node has, as far as the runs depend on it; `error` says what it lacks, or why no store answers."""
    import torch

    from runner import __version__
    from runner.engine.numerics import NUMERICS
    from runner.execution.sources import sources_of
    from runner.objectives.data import digest_of
    from runner.objectives.imported import import_function

    if folder is not None:
        os.chdir(folder)
    found = {
        "runner": f"{__version__} (numerics {NUMERICS})",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }
    if store is not None and (reason := unreachable(store)) is not None:
        found["error"] = f"tracking.uri={shown_text(store)}: {reason}"
    try:
        for target in targets:
            if kind_of(target) is Kind.FILE:
                found[f"data {target}"] = digest_of(DataSettings(target, held_out=0.0))[:12]
                continue
            import_function(target)
            found |= {f"module {name}": source.digest[:12] for name, source in sources_of(target).items()}
    except RunnerError as error:
        found["error"] = one_line(error)
    return found


def difference(expected: Mapping[str, str], found: Mapping[str, str], keys: Iterable[str]) -> str:
    """Return in words what a node lacks or has in another version; empty if nothing."""
    if "error" in found:
        return found["error"]
    return ", ".join(
        f"{key} {found.get(key)}, expected {expected[key]}" for key in keys if found.get(key) != expected[key]
    )


def check_this_node(expected: Mapping[str, str], targets: Sequence[str], folder: str | None) -> None:
    """Check that this node has what the runs need.

    Raises:
        UserError: it lacks something, or has it in another version.
    """
    differs = difference(expected, description(targets, folder), list(expected))
    if differs:
        raise UserError(f"node {socket.gethostname()}: {differs}")

"""The config that Hydra composes to read its mode is not composed again where that would give the same."""

from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, Node

from runner.composition.checked_loader import CheckedConfigLoader
from runner.composition.composition import config_folder
from runner.config.hydra_private import create_config_search_path
from runner.messages.errors import UserError


class Counting(CheckedConfigLoader):
    """Counts its compositions."""

    count = 0

    def composed(self, *arguments: Any, **named: Any) -> DictConfig:
        self.count += 1
        return super().composed(*arguments, **named)


def loader(folder: Path | None = None) -> Counting:
    path = create_config_search_path(str(config_folder()))
    if folder is not None:
        path.prepend("command-line", f"file://{folder}")
    return Counting(path)


def parts(node: Node) -> Any:
    """Return all that a config consists of, with the types and flags of its nodes."""
    own = type(node), node._metadata.flags, node._metadata.ref_type, node._metadata.object_type
    if isinstance(node, DictConfig) and isinstance(node._content, dict):
        return own, [(key, parts(inner)) for key, inner in node._content.items()]
    if isinstance(node, ListConfig) and isinstance(node._content, list):
        return own, [parts(inner) for inner in node._content]
    return own, node._value()


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        (["lr=0.3", "optimizer=adam", "hydra.job.name=mine", "experiment=null"], RunMode.RUN),
        (["lr=0.1,0.2", "optimizer=gd,adam", "repeats=2"], RunMode.MULTIRUN),
        (["hydra.mode=RUN", "repeats=2"], RunMode.MULTIRUN),
    ],
)
def test_a_config_composed_once_is_the_one_that_hydra_composes_twice(overrides: list[str], mode: RunMode) -> None:
    both = [*overrides, f"hydra.mode={mode.name}"]
    once = loader()
    once.load_configuration("config", overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    found = once.load_configuration("config", both, mode)
    assert once.count == 1
    assert parts(found) == parts(loader().load_configuration("config", both, mode))


def test_a_mode_in_a_file_is_read_and_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults:\n  - config\n  - _self_\nhydra:\n  mode: MULTIRUN\n")
    once = loader(tmp_path)
    first = once.load_configuration("mine", ["lr=1,2"], RunMode.MULTIRUN, validate_sweep_overrides=False)
    assert first.hydra.mode is RunMode.MULTIRUN
    found = once.load_configuration("mine", ["lr=1,2"], RunMode.MULTIRUN)
    assert once.count == 1
    assert parts(found) == parts(loader(tmp_path).load_configuration("mine", ["lr=1,2"], RunMode.MULTIRUN))


@pytest.mark.parametrize(
    ("name", "overrides", "line"),
    [
        ("config", ["lr=0.1,0.2"], "lr=0.1,0.2: "),
        ("config", ["optimizer=???"], "optimizer=???: expected one of "),
        ("config", ["repeats=2"], "repeats=2: "),
        ("mine", [], "as optimizer=OPTION on the command line"),
    ],
)
def test_what_only_a_sweep_may_leave_open_is_a_mistake_in_a_run(
    tmp_path: Path, name: str, overrides: list[str], line: str
) -> None:
    (tmp_path / "mine.yaml").write_text("defaults:\n  - config\n  - override optimizer: ???\n  - _self_\n")
    once = loader(tmp_path)
    once.load_configuration(name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    with pytest.raises(UserError) as caught:
        once.load_configuration(name, [*overrides, "hydra.mode=RUN"], RunMode.RUN)
    assert line in str(caught.value)
    with pytest.raises(UserError) as alone:
        loader(tmp_path).load_configuration(name, [*overrides, "hydra.mode=RUN"], RunMode.RUN)
    assert str(alone.value) == str(caught.value)

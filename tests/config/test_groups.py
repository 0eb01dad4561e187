"""Config groups as typed values: each gives back the tree that it was read from."""

import json

import pytest

from runner.composition.composition import compose, config_folder, to_config
from runner.config.direction import Direction
from runner.config.plain import plain
from runner.config.schema import GROUPS

OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((config_folder() / group).glob("*.yaml"))]
NEEDS = {
    "callable": ["allow_code=true", "objective.target=math:sin"],
    "module": ["allow_code=true", "objective.target=torch.nn:Module"],
    "package": ["allow_code=true"],
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_gives_its_tree_back_in_order(group: str, option: str) -> None:
    cfg = compose([f"{group}={option}", *NEEDS.get(option, [])])
    assert json.dumps(to_config(cfg).tree) == json.dumps(plain(cfg))


@pytest.mark.parametrize(
    "override",
    [
        "stop.loss_change={below:1e-3,window:5}",
        "++optimizer.weight_decay=1",
        "diagnostics.curvature=true",
        "tags={team:blue,n:1}",
        "initial_weight=[1,2]",
    ],
)
def test_overridden_values_are_given_back(override: str) -> None:
    cfg = compose(["optimizer=adam", "objective=rosenbrock", override])
    assert to_config(cfg).tree == plain(cfg)


@pytest.mark.parametrize(
    ("overrides", "direction"),
    [
        (["optimizer=adam"], Direction.DOWN),
        (["optimizer=adam", "optimizer.maximize=true"], Direction.UP),
        (["optimizer=torch", "optimizer.arguments={maximize:true}"], Direction.UP),
        (["optimizer=torch", "optimizer.arguments={maximize:false}"], Direction.DOWN),
        (["optimizer=gd"], Direction.DOWN),
    ],
)
def test_the_optimizer_decides_whether_the_run_maximizes(overrides: list[str], direction: Direction) -> None:
    assert to_config(compose(overrides)).direction is direction

"""Random configs of runs: every objective, optimizer and schedule, noise, mini-batches, stop rules, both dtypes."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runner.config.checking import checked_config
from runner.config.schema import Config
from runner.config.shipped import config_folder
from runner.messages.errors import UserError

Tree = dict[str, Any]
ALGORITHMS: list[Tree] = [
    {"algorithm": "SGD", "arguments": {"momentum": 0.9}},
    {"algorithm": "LBFGS", "arguments": {"max_iter": 2}},
    {"algorithm": "Rprop", "arguments": {}},
]
SHORT = {"milestones": [3, 6], "step_size": 4, "T_0": 5, "patience": 2}
STOPS: list[Tree] = [
    {}, {}, {"gradient_norm": 0.5}, {"target_loss": 1.0}, {"loss_change": {"below": 0.01, "window": 3}},
]  # fmt: skip


@cache
def _file(path: str) -> Tree:
    tree: Tree = yaml.safe_load((config_folder() / path).read_text())
    return tree


def options(group: str) -> list[str]:
    """Return the options of a group, without those that need code of the user's, a matrix or residuals."""
    names = sorted(path.stem for path in Path(config_folder() / group).glob("*.yaml"))
    return [name for name in names if name not in ("callable", "module", "package", "muon", "levenberg_marquardt")]


def random_config(rng: random.Random, index: int, tracking: Tree) -> Config:
    """Return a random config; with each index, the next objective, optimizer and schedule."""
    while True:
        try:
            return checked_config(_tree(rng, index, tracking))
        except UserError:  # a schedule does not fit the number of steps
            continue


def _tree(rng: random.Random, index: int, tracking: Tree) -> Tree:
    def option(group: str) -> Tree:
        names = options(group)
        return dict(_file(f"{group}/{names[index % len(names)]}.yaml"))

    objective, optimizer, schedule = option("objective"), option("optimizer"), option("schedule")
    if optimizer["name"] == "newton" and "dataset" in objective:  # hundreds of dimensions take seconds a step
        optimizer = dict(_file("optimizer/gd.yaml"))
    if "batch_size" in objective:
        objective["batch_size"] = rng.choice([None, 8, 32])
    if "maximize" in optimizer:
        optimizer["maximize"] = rng.random() < 0.1
    if optimizer["name"] == "torch":
        optimizer |= rng.choice(ALGORITHMS)
    schedule |= {key: value for key, value in SHORT.items() if key in schedule}
    schedule["warmup_steps"] = rng.choice([0, 0, 2])
    own = {key: value for key, value in _file("config.yaml").items() if key not in ("defaults", "hydra")}
    return own | {
        "objective": objective,
        "optimizer": optimizer,
        "schedule": schedule,
        "stop": _file("stop/rules.yaml") | rng.choice(STOPS),
        "tracking": tracking,
        "lr": rng.choice([10 ** rng.uniform(-4, -0.3), 30.0]) if rng.random() < 0.2 else 10 ** rng.uniform(-4, -1),
        "steps": rng.randint(6, 25),
        "gradient_noise": rng.choice([0.0, 0.1]),
        "clip_value": rng.choice([None, None, 5.0]),
        "clip_norm": rng.choice([None, None, 1.0]),
        "dtype": rng.choice(["float32", "float64"]),
        "initial_weight": rng.choice([None, "random"]) if objective.get("bounds") else None,
        "seed": rng.randrange(2**31),
        "diagnostics": {"curvature": rng.random() < 0.15 and objective["name"] != "mlp"},
        "log_every": rng.choice([None, 3]),
        "keep_weights": rng.choice(["best", "all"]),
        "quiet": True,
    }

"""Runs in a batch, compared with each run alone."""

import struct
from dataclasses import replace
from functools import cache

from runner.composition.composition import compose, to_config
from runner.config.schema import Config
from runner.console.run import Console
from runner.engine.batches import grouped, member_of
from runner.engine.result import Result
from runner.execution.batch import execute
from runner.execution.recording import PlannedRun
from tests.support.descents import Collected

History = dict[str, dict[int, bytes]]
NEEDS = {
    "expression": ["objective.formula='(1 - x)**2 + a*log(1 + y**2) + sigmoid(x*y)'", "++objective.constants.a=3"],
    "mlp": ["objective.dataset=diabetes", "objective.hidden=4"],
    "logistic_regression": ["objective.dataset=breast_cancer"],
}


@cache
def base(objective: str, optimizer: str = "gd", schedule: str = "constant", *overrides: str) -> Config:
    """Return a config whose optimizer and schedule were each composed once, for all objectives."""
    milestones = ["schedule.milestones=[5,9]"] if schedule == "multistep" else []
    chosen = {"optimizer": [f"optimizer={optimizer}"], "schedule": [f"schedule={schedule}", *milestones]}
    groups = {}
    for group, own in chosen.items():
        own += [text for text in overrides if text.startswith(f"{group}.")]
        groups[group] = getattr(_composed(*own), group)
    others = [text for text in overrides if not text.startswith(tuple(f"{group}." for group in chosen))]
    return replace(_composed(f"objective={objective}", *NEEDS.get(objective, []), *others), **groups)


@cache
def _composed(*overrides: str) -> Config:
    return to_config(compose(["quiet=true", *overrides]))


def recorded(configs: list[Config]) -> tuple[list[Result], list[History]]:
    """Return how runs of one batch ended, and their histories to the bit."""
    tracker = Collected()
    runs = [
        PlannedRun(member_of(replace(config, parent_run="sweep")), str(index)) for index, config in enumerate(configs)
    ]
    assert len(grouped([run.member for run in runs])) == 1
    results = execute(runs, tracker.append, Console(configs[0]))
    return results, [tracker.histories(str(index)) for index in range(len(configs))]


def assert_equal_to_alone(configs: list[Config], runs: list[int]) -> list[Result]:
    results, together = recorded(configs)
    for run in runs:
        (result,), (alone,) = recorded([configs[run]])
        assert (result.outcome, result.steps, result.reason) == (
            results[run].outcome,
            results[run].steps,
            results[run].reason,
        )
        assert together[run] == alone
        assert struct.pack("d", result.loss) == struct.pack("d", results[run].loss)
    return results

"""Descents in the tests' own process, with what they record."""

import copy
import functools
import struct
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from runner.composition.composition import compose, config_folder, to_config
from runner.console.run import Console
from runner.engine.batches import Member, member_of
from runner.engine.compiled import ProgramRunner
from runner.engine.descent import Carry, Outputs, Problem
from runner.engine.result import Result
from runner.execution.batch import execute
from runner.execution.recording import PlannedRun
from runner.tracking.journal import Entry, Metrics
from runner.tracking.tracker import Untracked

QUIET = ["quiet=true", "threads=2"]


class Collected(Untracked):
    """Keeps the entries that a run appends."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def history(self, key: str) -> dict[int, float]:
        metrics = [entry for entry in self.entries if isinstance(entry, Metrics)]
        return {step: value for entry in metrics for name, value, step in entry.of_run(0) if name == key}

    def histories(self, run: str) -> dict[str, dict[int, bytes]]:
        """Return the recorded metrics of a run, by key and step, to the bit."""
        found: dict[str, dict[int, bytes]] = {}
        for entry in self.entries:
            if isinstance(entry, Metrics) and run in entry.runs:
                for key, value, step in entry.of_run(entry.runs.index(run)):
                    assert step not in found.get(key, {})
                    found.setdefault(key, {})[step] = struct.pack("d", value)
        return found


def member(*overrides: str) -> Member:
    return member_of(to_config(compose([*QUIET, *overrides])))


def done(*overrides: str) -> tuple[Result, Collected]:
    run, tracker = member(*overrides), Collected()
    (result,) = execute([PlannedRun(run, "run")], tracker.append, Console(run.config))
    return result, tracker


def made_by_program(runner: ProgramRunner, problem: Problem, steps: int, at_once: int) -> tuple[Carry, Outputs]:
    """Return the carry after the first steps of a problem and their outputs, at most `at_once` steps in a block."""
    carry, parts, done = problem.start, list[Outputs](), 0
    while done < steps:
        carry, outputs = runner(problem, carry, min(at_once, steps - done))
        parts.append(outputs)
        done += len(outputs.loss)
    joined = (None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))
    return carry, Outputs(*joined)  # type: ignore[arg-type]


def defaults(name: str) -> dict[str, Any]:
    return copy.deepcopy(_defaults(name))


@functools.cache
def _defaults(name: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(config_folder() / "optimizer" / f"{name}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def rosenbrock(w: Tensor) -> Tensor:
    return 100 * (w[..., 1] - w[..., 0] ** 2) ** 2 + (1 - w[..., 0]) ** 2


def gradient_at(loss: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    point = weight.detach().requires_grad_()
    value = loss(point)
    return torch.autograd.grad(value, point, torch.ones_like(value))[0]

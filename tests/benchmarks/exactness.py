"""Whether programs make the bits of torch's kernels, and by how many units in the last place they differ."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.compiling.recording import CannotCompileError
from runner.composition.composition import compose, to_config
from runner.config.schema import Config
from runner.engine.batches import member_of
from runner.engine.compiled import Compiled, are_equal, of_runs
from runner.engine.descent import Problem, made_eagerly
from runner.engine.problem import prepare
from tests.support.descents import made_by_program
from tests.support.random_runs import options, random_config

STEPS = 60
# So that rates change within these steps.
SHORT = {"multistep": ["schedule.milestones=[20]"], "step": ["schedule.step_size=20"]}


@dataclass(frozen=True)
class Comparison:
    """The same steps by torch's kernels and by a program.

    Attributes:
        inexact: the operations that may round otherwise in the program.
        same: whether all outputs and states are equal to the bit.
        ulps: how far the weights are apart.
    """

    inexact: frozenset[str]
    same: bool
    ulps: int


def compared(made: Callable[[], Problem]) -> Comparison:
    """Return the comparison of some steps.

    Raises:
        CannotCompileError: the steps cannot be compiled.
    """
    one, other = made(), made()
    runner = Compiled().prepared(one, one.start)
    carry, expected = made_eagerly(other.step, other.start, itertools.islice(other.inputs, STEPS))
    after, found = made_by_program(runner, one, STEPS, STEPS)
    same = are_equal((carry, of_runs(expected, one.runs)), (after, of_runs(found, one.runs)))
    return Comparison(runner.plan.inexact, same, ulps(carry.weight[: one.runs], after.weight[: one.runs]))


def ulps(one: Tensor, other: Tensor) -> int:
    """Return the largest distance of numbers in units in the last place."""
    return int((_counted(one) - _counted(other)).abs().max())


def _counted(numbers: Tensor) -> Tensor:
    """Return for each number how many lie between 0 and it."""
    kind = torch.int32 if numbers.dtype == torch.float32 else torch.int64
    bits = numbers.nan_to_num().contiguous().view(kind).to(torch.int64)
    return torch.where(numbers < 0, -(bits & torch.iinfo(kind).max), bits)


def print_bits(seed: int, count: int) -> None:
    """Print how many random configs a program makes to the bit of torch's kernels, and each that it does not."""
    random_numbers, tally = random.Random(seed), Counter[str]()
    nowhere = {"name": "off", "uri": None, "experiment": None, "artifacts": None, "offline": None}
    for index in range(count):
        config = random_config(random_numbers, index, nowhere)
        runs = random_numbers.choice([1, 3, 70])
        try:
            found = compared(lambda config=config, runs=runs: _problem(config, runs))  # type: ignore[misc]
        except CannotCompileError as error:
            tally[f"refused: {error}"] += 1
            continue
        expected = f"not expected: {', '.join(sorted(found.inexact))}" if found.inexact else "expected"
        tally[f"{'same' if found.same else 'other'} bits, {expected}"] += 1
        if not found.same and not found.inexact:
            print(f"other bits: {config.objective.name} {config.optimizer.name} {config.schedule.name} {config.dtype}")
    for text, number in sorted(tally.items()):
        print(f"{number:>4} {text}")


def _problem(config: Config, runs: int) -> Problem:
    return prepare([member_of(replace(config, lr=config.lr * (0.5 + run / runs))) for run in range(runs)]).problem


def print_ulps() -> None:
    """Print by how many units in the last place the weights differ, for each option where they do or may."""
    tally = Counter[str]()
    for overrides, dtype in itertools.product(_choices(), ("float32", "float64")):
        name = f"{overrides[0]} {dtype}"
        config = to_config(compose(["quiet=true", "tracking=off", f"steps={STEPS}", f"dtype={dtype}", *overrides]))
        runs = 1 if config.optimizer.is_torch_optim else 3
        try:
            found = compared(lambda config=config, runs=runs: _problem(config, runs))  # type: ignore[misc]
        except CannotCompileError as error:
            print(f"{name:<50} refused: {error}", flush=True)
            continue
        tally["differ" if found.ulps else "are the same"] += 1
        if found.ulps or found.inexact:
            print(f"{name:<50} {found.ulps:>12,} ulps  {', '.join(sorted(found.inexact))}", flush=True)
    print(", ".join(f"the weights of {count} {text}" for text, count in tally.items()))


def _choices() -> Iterator[list[str]]:
    """Yield overrides for each objective, rule and schedule."""
    for name in options("objective"):
        yield [f"objective={name}", "optimizer=adam"]
    for name in options("optimizer"):
        yield [f"optimizer={name}", "objective=rosenbrock", "lr=1e-3"]
    for name in options("schedule"):
        yield [f"schedule={name}", "objective=rosenbrock", "lr=1e-3", *SHORT.get(name, [])]

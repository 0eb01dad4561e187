"""Engines that make the steps of a block by a compiled program."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from runner.compiling.memory import ReusedMemory
from runner.compiling.programs import compiled_file
from runner.compiling.recording import CannotCompileError, Recording
from runner.compiling.replay import Replay, replayed
from runner.compiling.running import ReplayedProgram, TranslatedProgram
from runner.compiling.translation import Translation, check_translated, translated
from runner.engine.batches import PADDED_DIMENSION
from runner.engine.descent import BLOCK_SECONDS, AnyStep, Carry, Outputs, Problem, eager, made_eagerly
from runner.engine.inputs import Inputs, steps_of
from runner.engine.torch_step import TorchStep

# How long one call of a program is to take: signals wait for it.
CALL_SECONDS = 0.05
# How many steps the first call makes: a step that is replayed may take a second by itself.
FIRST_CALL, FIRST_REPLAY = 64, 1
# After so many steps, the carry lies in memory as it does after each step.
STEADY = 2


def _check(problem: Problem) -> None:
    if isinstance(problem.step, TorchStep):
        raise CannotCompileError("the optimizer is a class of torch.optim, which keeps its own state")
    device = problem.start.weight.device
    if device.type != "cpu":
        raise CannotCompileError(f"programs are for the CPU, the device is {device}")


def plan_of(problem: Problem, carry: Carry, *, is_exact: bool) -> Translation | Replay:
    """Return how a program makes a problem's steps: one run in each lane of a vector, else by torch's kernels.

    Args:
        problem: of the steps.
        carry: before the next one, of which one at least was made.
        is_exact: whether the program has to make the bits of torch's kernels.

    Raises:
        CannotCompileError: it cannot be compiled.
    """
    _check(problem)
    (inputs,) = steps_of(problem.inputs.peek())
    rows, dimension = carry.weight.shape
    try:
        recording = Recording.of(problem.step, carry, inputs, at_once=True, check=check_translated)
        found = translated(recording, rows, is_padded=dimension <= PADDED_DIMENSION)
    except CannotCompileError:
        is_taken = False
    else:
        is_taken = not (is_exact and found.inexact)
    if is_taken:
        return found
    calls = replayed(Recording.of(problem.step, carry, inputs, at_once=False))
    if is_exact and calls.inexact:
        raise CannotCompileError(f"{', '.join(sorted(calls.inexact))} may round differently there")
    return calls


@dataclass
class ProgramRunner:
    """Makes the steps of one problem by its program."""

    plan: Translation | Replay
    program: TranslatedProgram | ReplayedProgram
    runs: int
    _memory: ReusedMemory = field(default_factory=ReusedMemory, init=False)

    def __post_init__(self) -> None:
        self._a_call = FIRST_REPLAY if isinstance(self.plan, Replay) else FIRST_CALL

    @classmethod
    def of(cls, path: Path, plan: Translation | Replay, problem: Problem) -> "ProgramRunner":
        """Return the runner of a problem by its kept program.

        Raises:
            CannotCompileError: the program cannot be loaded.
        """
        if isinstance(plan, Replay):
            return cls(plan, ReplayedProgram(path, plan), problem.runs)
        return cls(plan, TranslatedProgram(path, plan, len(problem.start.weight), problem.runs), problem.runs)

    def __call__(self, problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        """Make at most `most` steps, as many as fit a short time."""
        if isinstance(self.program, ReplayedProgram) and carry is problem.start and not self.program.fits(carry):
            return eager(problem, carry, min(most, STEADY))
        outputs = self.program.form.new_outputs(most, self.runs, self._memory)
        deadline, made, parts = time.perf_counter() + BLOCK_SECONDS, 0, list[Inputs]()
        while made < most:
            begun = time.perf_counter()
            inputs = problem.inputs.take(min(self._a_call, most - made))
            carry = self.program(carry, inputs, len(inputs.schedule), outputs, made)
            parts.append(inputs)
            made += len(inputs.schedule)
            now = time.perf_counter()
            self._a_call = max(1, int(min(2.0, CALL_SECONDS / max(now - begun, 1e-9)) * len(inputs.schedule)))
            if now >= deadline:
                break
        return carry, self._outputs(outputs, parts, made)

    def once(self, carry: Carry, inputs: Inputs) -> tuple[Carry, Outputs]:
        """Make the steps of some inputs."""
        count = len(inputs.schedule)
        outputs = self.program.form.new_outputs(count, self.runs, self._memory)
        carry = self.program(carry, inputs, count, outputs, 0)
        return carry, self._outputs(outputs, [inputs], count)

    def _outputs(self, made: Sequence[Tensor | None], parts: Sequence[Inputs], count: int) -> Outputs:
        """Return the outputs; those that are inputs are taken from these."""
        found: list[Tensor | None] = []
        for one, given_back in zip(made, self.program.form.given_back, strict=True):
            if given_back is not None:
                found.append(_joined([part[given_back] for part in parts], count))
            else:
                found.append(None if one is None else one[:count])
        return Outputs(*found)  # type: ignore[arg-type]


def _joined(parts: Sequence[Tensor | None], count: int) -> Tensor:
    first = parts[0]
    assert first is not None
    if all(part is not None and part.stride(0) == 0 and part.data_ptr() == first.data_ptr() for part in parts):
        return first[:1].expand(count, *first.shape[1:])
    return torch.cat([part for part in parts if part is not None])


class Compiled:
    """Makes all steps by a program, which is compiled first where it is not kept."""

    def __init__(self) -> None:
        self._step: AnyStep | None = None
        self._runner: ProgramRunner | None = None

    def __call__(self, problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        """Make at most `most` steps, as many as fit a short time.

        Raises:
            CannotCompileError: the step cannot be compiled.
        """
        return self.prepared(problem, carry)(problem, carry, most)

    def prepared(self, problem: Problem, carry: Carry) -> ProgramRunner:
        """Return what makes the steps of a problem.

        Raises:
            CannotCompileError: the step cannot be compiled.
        """
        if self._runner is None or self._step is not problem.step:
            _check(problem)
            # The first step also tries out how to evaluate.
            again = itertools.cycle(steps_of(problem.inputs.peek()))
            steady, _ = made_eagerly(problem.step, carry, itertools.islice(again, STEADY))
            plan = plan_of(problem, steady, is_exact=False)
            self._runner = ProgramRunner.of(compiled_file(plan.source), plan, problem)
            self._step = problem.step
        return self._runner


def are_equal(one: object, other: object) -> bool:
    """Return whether nested tuples of tensors are equal to the bit, NaN being equal to NaN."""
    pairs = zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True)
    return all(a is b or _are_same(a, b) for a, b in pairs)


def _are_same(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one == other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    same = one == other
    if one.is_floating_point():
        same = (same & (one.signbit() == other.signbit())) | (one.isnan() & other.isnan())
    return bool(same.all())


def of_runs(outputs: Outputs, runs: int) -> Outputs:
    """Return the outputs of steps without those of padding."""
    return Outputs(*[None if one is None else one[:, :runs] for one in outputs])  # type: ignore[arg-type]

"""The engine that takes a compiled program where it gives the same bits sooner, and torch's own kernels elsewhere."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engine.descent import AnyStep, Carry, Outputs, Problem, eager, made_eagerly
from runner.engine.inputs import steps_of

if TYPE_CHECKING:
    from runner.compiling.programs import Compilation
    from runner.compiling.replay import Replay
    from runner.compiling.translation import Translation
    from runner.engine.compiled import ProgramRunner

# From so many steps on, the first block is short, so that a kept program is found soon.
LONG = 4096
FIRST_BLOCK = 256
# Translating a step takes some hundredths of a second, compiling it some seconds of another CPU core: how long the
# steps to come must take to be worth it.
WORTH_A_LOOK = 0.5
WORTH_COMPILING = 8.0
# How many steps a program must repeat to the bit.
REPEATED = 128
REPEATED_SECONDS = 0.1


class Auto:
    """Begins with torch's own kernels, and goes on with a program once one has repeated some steps to the bit.

    A program that another run has kept is taken after the first block; else it is compiled in a process of its own
    where the steps to come are worth it.
    """

    def __init__(self, steps: int) -> None:
        """Begin a descent of so many steps."""
        self._steps = self._left = steps
        self._is_long = steps >= LONG
        self._compilation: Compilation | None = None
        self._begin(None)

    def _begin(self, step: AnyStep | None) -> None:
        self.close()
        self._step = step
        self._seconds, self._made = 0.0, 0
        self._plan: Translation | Replay | None = None
        self._candidate: ProgramRunner | None = None
        self._runner: ProgramRunner | None = None
        self._is_settled = False
        self.description: str | None = None

    def __call__(self, problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        """Make at most `most` steps, as many as fit a short time."""
        if problem.step is not self._step:
            self._begin(problem.step)
        carry, outputs = self._made_by(problem, carry, most)
        self._left -= len(outputs.loss)
        return carry, outputs

    def _made_by(self, problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        if self._runner is not None:
            return self._runner(problem, carry, most)
        if self._candidate is not None:
            return self._repeated(self._candidate, problem, carry, most)
        begun = time.perf_counter()
        if self._is_long and not self._made:
            most = min(most, FIRST_BLOCK)
        carry, outputs = eager(problem, carry, most)
        self._seconds += time.perf_counter() - begun
        self._made += len(outputs.loss)
        if not self._is_settled:
            self._look_for_a_program(problem, carry)
        return carry, outputs

    @property
    def _seconds_left(self) -> float:
        return self._seconds / self._made * self._left

    def _look_for_a_program(self, problem: Problem, carry: Carry) -> None:
        if self._seconds_left < WORTH_A_LOOK:
            return
        from runner.compiling.programs import compiler
        from runner.compiling.recording import CannotCompileError

        try:
            self._find(problem, carry)
        except CannotCompileError as error:
            self._is_settled = True
            if compiler() is not None:
                self.description = f"eager: {error}"
        except Exception as error:  # whatever it is, the steps can be made without a program
            self._is_settled, self.description = True, f"eager: {type(error).__name__}: {error}"

    def _find(self, problem: Problem, carry: Carry) -> None:
        """Take a program that is there, or begin to compile it, or see whether it is ready."""
        from runner.compiling.programs import Compilation, kept
        from runner.engine.compiled import plan_of

        if self._compilation is not None:
            path = self._compilation.finished()
        else:
            if self._plan is None:
                self._plan = plan_of(problem, carry, is_exact=True)
                self._key = self._plan.source.key
            path = kept(self._key)
            if path is None and self._seconds_left > WORTH_COMPILING:
                self._compilation = Compilation(self._plan.source, is_idle=True)
        if path is not None:
            self._take(path, problem)

    def _take(self, path: Path, problem: Problem) -> None:
        from runner.engine.compiled import ProgramRunner

        assert self._plan is not None
        self._candidate = ProgramRunner.of(path, self._plan, problem)
        self._compilation, self._is_settled = None, True

    def _repeated(self, candidate: "ProgramRunner", problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        """Make steps with torch's own kernels, and go on with the program if it makes the same."""
        from runner.engine.compiled import are_equal, of_runs

        self._candidate = None
        a_step = self._seconds / self._made
        inputs = problem.inputs.take(max(1, min(most, REPEATED, int(REPEATED_SECONDS / max(a_step, 1e-9)))))
        begun = time.process_time()  # of the CPU, which other processes do not change
        after, outputs = made_eagerly(problem.step, carry, steps_of(inputs))
        between = time.process_time()
        other, again = candidate.once(carry, inputs)
        is_slower = time.process_time() - between > between - begun
        if not are_equal((after, of_runs(outputs, problem.runs)), (other, of_runs(again, problem.runs))):
            self.description = "eager: the program does not repeat the steps to the bit"
        elif is_slower:
            self.description = "eager: the program takes longer"
        else:
            self._runner = candidate
            self.description = f"compiled from step {self._steps - self._left + len(outputs.loss) + 1:,} on"
        return after, outputs

    def close(self) -> None:
        """End a compilation that is not ready."""
        if self._compilation is not None:
            self._compilation.close()
        self._compilation = None

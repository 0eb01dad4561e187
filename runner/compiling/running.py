"""Running a program on tensors."""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from runner.compiling.memory import ReusedMemory
from runner.compiling.programs import Program, Ref
from runner.compiling.translation import Translation

# Runs that a thread should have at least.
RUNS_A_THREAD = 512


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="program")


@dataclass
class Runnable:
    """A program with the tensors that its step reads.

    Attributes:
        program: the function.
        translation: of the step.
        rows: how many rows the tensors have.
        runs: how many of these are runs; the others repeat the first and are not computed.
    """

    program: Program
    translation: Translation
    rows: int
    runs: int

    def __post_init__(self) -> None:
        self._held = [one.contiguous() for one in self.translation.constants]
        self._constants = self._refs(self._held)
        self._memory = ReusedMemory()

    def new_outputs(self, steps: int) -> list[Tensor | None]:
        """Return the tensors for the outputs of so many steps; None for one that is an input."""
        made = [
            ((steps, self.runs, *size[1:]), dtype) if given_back is None and size else None
            for (size, dtype), given_back in zip(self.translation.outputs, self.translation.given_back, strict=True)
        ]
        found = iter(self._memory.tensors([one for one in made if one is not None]))
        return [None if one is None else next(found) for one in made]

    def __call__(self, carry: Any, inputs: Any, steps: int, outputs: Sequence[Tensor | None], at: int) -> Any:
        """Make steps, whose inputs are stacked, write their outputs from place `at` on, and return the last carry."""
        states, spec = pytree.tree_flatten(carry)
        asked = [one.contiguous() if _is_loose(one) else one for one in pytree.tree_leaves(inputs)]
        # No tensor of the carry may change while another part of the rows reads it.
        after = [one if number in self.translation.kept else torch.empty_like(one) for number, one in enumerate(states)]
        states = [one.contiguous() if isinstance(one, Tensor) else one for one in states]
        given = (
            self._constants,
            self._refs(asked, is_stacked=True),
            self._refs(states),
            self._refs(after),
            self._refs(outputs, is_stacked=True, at=at, rows=self.runs),
        )
        self._run(steps, given)
        if self.rows > self.runs:
            for number, one in enumerate(after):
                if number not in self.translation.kept and one.dim() > 0 and one.shape[0] == self.rows:
                    one[self.runs :] = one[0]
        return pytree.tree_unflatten(after, spec)

    def _run(self, steps: int, given: Sequence[Any]) -> None:
        count = max(1, min(torch.get_num_threads(), self.runs // RUNS_A_THREAD))
        if count == 1:
            self.program(steps, self.runs, 0, self.runs, *given)
            return
        share = -(-self.runs // count // 64) * 64
        parts = [(first, min(first + share, self.runs)) for first in range(0, self.runs, share)]
        made = [_threads(count - 1).submit(self.program, steps, self.runs, *part, *given) for part in parts[1:]]
        self.program(steps, self.runs, *parts[0], *given)
        for one in made:
            one.result()

    def _refs(
        self, tensors: Sequence[Any], is_stacked: bool = False, at: int = 0, rows: int | None = None
    ) -> "ctypes.Array[Ref]":
        rows = self.rows if rows is None else rows
        refs = (Ref * max(1, len(tensors)))()
        for number, one in enumerate(tensors):
            if not isinstance(one, Tensor):
                continue
            step = one.stride(0) if is_stacked else 0
            shape = one.shape[1:] if is_stacked else one.shape
            has_rows = len(shape) > 0 and shape[0] == rows and rows > 1
            row = _product(shape[1:]) if has_rows else 0
            refs[number] = Ref(one.data_ptr() + at * step * one.element_size(), step, row)
        return refs


def _is_loose(one: Any) -> bool:
    """Return whether the numbers of one step do not lie one after the other."""
    return isinstance(one, Tensor) and len(one) > 0 and not one[0].is_contiguous()


def _product(shape: Sequence[int]) -> int:
    found = 1
    for size in shape:
        found *= size
    return found

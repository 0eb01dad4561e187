"""Running a translated program on tensors."""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from runner.compiling.programs import load
from runner.compiling.translation import Translation

# Runs that a thread should have at least.
RUNS_A_THREAD = 512


class Ref(ctypes.Structure):
    """Where a tensor is, and how far its steps and rows are from each other, in numbers."""

    _fields_ = (("data", ctypes.c_void_p), ("step", ctypes.c_long), ("row", ctypes.c_long))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="program")


class TranslatedProgram:
    """A program in lanes, with the tensors that its step reads."""

    def __init__(self, path: Path, translation: Translation, rows: int, runs: int) -> None:
        """Load a kept program.

        Args:
            path: of the program.
            translation: of the step.
            rows: how many rows the tensors have.
            runs: how many of these are runs; the others repeat the first and are not computed.

        Raises:
            CannotCompileError: the program cannot be loaded.
        """
        self.form = translation.form
        self._rows, self._runs = rows, runs
        self._descend = load(path).descend
        long = ctypes.c_long
        self._descend.argtypes = [long, long, long, long, *[ctypes.POINTER(Ref)] * 5]
        self._descend.restype = None
        self._held = [one.contiguous() for one in translation.constants]
        self._constants = self._refs(self._held)

    def __call__(self, carry: Any, inputs: Any, steps: int, outputs: Sequence[Tensor | None], at: int) -> Any:
        """Make steps, whose inputs are stacked, write their outputs from place `at` on, and return the last carry."""
        states, spec = pytree.tree_flatten(carry)
        asked = [one.contiguous() if _is_loose(one) else one for one in pytree.tree_leaves(inputs)]
        # No tensor of the carry may change while another part of the rows reads it.
        after = [one if number in self.form.kept else torch.empty_like(one) for number, one in enumerate(states)]
        states = [one.contiguous() if isinstance(one, Tensor) else one for one in states]
        given = (
            self._constants,
            self._refs(asked, is_stacked=True),
            self._refs(states),
            self._refs(after),
            self._refs(outputs, is_stacked=True, at=at, rows=self._runs),
        )
        self._run(steps, given)
        if self._rows > self._runs:
            for number, one in enumerate(after):
                if number not in self.form.kept and one.dim() > 0 and one.shape[0] == self._rows:
                    one[self._runs :] = one[0]
        return pytree.tree_unflatten(after, spec)

    def _run(self, steps: int, given: Sequence[Any]) -> None:
        count = max(1, min(torch.get_num_threads(), self._runs // RUNS_A_THREAD))
        if count == 1:
            self._descend(steps, self._runs, 0, self._runs, *given)
            return
        share = -(-self._runs // count // 64) * 64
        parts = [(first, min(first + share, self._runs)) for first in range(0, self._runs, share)]
        made = [_threads(count - 1).submit(self._descend, steps, self._runs, *part, *given) for part in parts[1:]]
        self._descend(steps, self._runs, *parts[0], *given)
        for one in made:
            one.result()

    def _refs(
        self, tensors: Sequence[Any], is_stacked: bool = False, at: int = 0, rows: int | None = None
    ) -> "ctypes.Array[Ref]":
        rows = self._rows if rows is None else rows
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

"""Running programs on tensors."""

import ctypes
import itertools
import math
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from runner.compiling.programs import load
from runner.compiling.recording import CannotCompileError
from runner.compiling.replay import DTYPES, Instruction, Replay
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


class ReplayedProgram:
    """A program that calls torch's kernels, with the calls of a step."""

    def __init__(self, path: Path, plan: Replay) -> None:
        """Load the program and give it the calls of a plan.

        Raises:
            CannotCompileError: the program cannot be loaded, or a call is not known to it.
        """
        self.form, self._plan = plan.form, plan
        self._library = _library(path)
        # The tensors with all steps or after the last one follow those of a step.
        self._slot = plan.slots
        self._stacked_inputs = self._slots_for(plan.inputs)
        self._stacked_outputs = self._slots_for(plan.outputs)
        self._last = self._slots_for(plan.states)
        self._step = self._library.new_step(self._slot)
        weakref.finalize(self, self._library.delete_step, self._step)
        for slot, one in plan.constants.items():
            self._set(slot, one)
        for instruction in plan.instructions:
            self._add(instruction)

    def _slots_for(self, own: Sequence[int]) -> list[int]:
        first, self._slot = self._slot, self._slot + len(own)
        return list(range(first, self._slot))

    def _add(self, one: Instruction) -> None:
        library, before = self._library, int(one.is_before)
        self._check(library.add_call(self._step, before, one.name.encode(), one.overload.encode()))
        for given in one.arguments:
            count = len(given.values)
            whole = (ctypes.c_long * max(1, count))(
                *[int(value) if math.isfinite(value) else 0 for value in given.values]
            )
            real = (ctypes.c_double * max(1, count))(*given.values)
            kind, text = given.kind.encode(), given.text.encode()
            self._check(library.add_argument(self._step, before, given.place, kind, count, whole, real, text))
        library.end_call(
            self._step, before, len(one.results), _longs(one.results), len(one.last_used), _longs(one.last_used)
        )

    def _check(self, error: bytes | None) -> None:
        if error is not None:
            raise CannotCompileError(error.decode(errors="replace").splitlines()[0])

    def _set(self, slot: int, one: Tensor) -> None:
        data, dtype = one.data_ptr(), DTYPES[one.dtype]
        self._library.set_slot(self._step, slot, data, dtype, one.dim(), _longs(one.shape), _longs(one.stride()))

    def fits(self, carry: Any) -> bool:
        """Return whether a carry lies in memory as the one that was recorded; another is copied, and may round so."""
        return all(map(_fits, pytree.tree_leaves(carry), self._plan.strides))

    def __call__(self, carry: Any, inputs: Any, steps: int, outputs: Sequence[Tensor | None], at: int) -> Any:
        """Make steps, whose inputs are stacked, write their outputs from place `at` on, and return the last carry."""
        given_states, spec = pytree.tree_flatten(carry)
        asked, plan, kept = pytree.tree_leaves(inputs), self._plan, self.form.kept
        pairs = list(zip(given_states, plan.strides, strict=True))
        states = [one if _fits(one, strides) else _strided(one, strides).copy_(one) for one, strides in pairs]
        after = [
            one if number in kept else _strided(one, plan.strides[number]) for number, one in enumerate(given_states)
        ]
        given = [*zip(plan.states, states, strict=True), *zip(self._stacked_inputs, asked, strict=True)]
        given += zip(self._last, after, strict=True)
        given += [
            (slot, None if one is None else one[at:]) for slot, one in zip(self._stacked_outputs, outputs, strict=True)
        ]
        for slot, one in given:
            if slot >= 0 and isinstance(one, Tensor):
                self._set(slot, one)
        changed = [number for number in range(len(states)) if number not in kept]
        error = self._library.make_steps(
            self._step, steps,
            *_pairs((self._stacked_inputs[number], slot) for number, slot in enumerate(plan.inputs) if slot >= 0),
            *_pairs((plan.states[number], plan.after[number]) for number in changed),
            *_pairs((slot, self._stacked_outputs[number]) for number, slot in enumerate(plan.outputs) if slot >= 0),
            *_pairs((plan.states[number], self._last[number]) for number in changed),
        )  # fmt: skip
        if error is not None:
            raise RuntimeError(error.decode(errors="replace"))
        return pytree.tree_unflatten(after, spec)


def _fits(one: Any, strides: tuple[int, ...] | None) -> bool:
    return strides is None or one.stride() == strides


def _strided(one: Tensor, strides: tuple[int, ...] | None) -> Tensor:
    return torch.empty_strided(one.shape, strides or (), dtype=one.dtype)


def _library(path: Path) -> ctypes.CDLL:
    library = load(path)
    pointer, long, text = ctypes.c_void_p, ctypes.c_long, ctypes.c_char_p
    longs, reals = ctypes.POINTER(ctypes.c_long), ctypes.POINTER(ctypes.c_double)
    library.new_step.argtypes, library.new_step.restype = [long], pointer
    library.delete_step.argtypes, library.delete_step.restype = [pointer], None
    library.add_call.argtypes, library.add_call.restype = [pointer, ctypes.c_int, text, text], text
    library.add_argument.argtypes = [pointer, ctypes.c_int, long, ctypes.c_char, long, longs, reals, text]
    library.add_argument.restype = text
    library.end_call.argtypes, library.end_call.restype = [pointer, ctypes.c_int, long, longs, long, longs], None
    library.set_slot.argtypes = [pointer, long, pointer, ctypes.c_int, long, longs, longs]
    library.set_slot.restype = None
    library.make_steps.argtypes = [pointer, long, *(long, longs) * 4]
    library.make_steps.restype = text
    return library


def _longs(values: Iterable[int]) -> "ctypes.Array[ctypes.c_long]":
    found = tuple(values)
    return (ctypes.c_long * max(1, len(found)))(*found)


def _pairs(found: Iterable[tuple[int, int]]) -> tuple[int, "ctypes.Array[ctypes.c_long]"]:
    pairs = list(found)
    return len(pairs), _longs(itertools.chain.from_iterable(pairs))

"""Recording the operations of a step while torch runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from runner.compiling.memory import ReusedMemory
from runner.tensors.tracing import recorded

# What the tensors of a recorded step may take: they are all kept until the last.
MOST_BYTES = 512 * 2**20
READ = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero")
PureStep: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


class CannotCompileError(Exception):
    """A step cannot be compiled; the message says why."""


@dataclass(frozen=True)
class Call:
    """A call of one of torch's operations.

    Attributes:
        name: of the operation, such as `add`.
        kernel: the operation itself.
        given: the positional arguments.
        named: the others.
        found: what it returned.
    """

    name: str
    kernel: Callable[..., Any]
    given: Sequence[Any]
    named: Mapping[str, Any]
    found: Any

    @property
    def results(self) -> list[Any]:
        """What it returned, as a list."""
        return list(self.found) if isinstance(self.found, tuple | list) else [self.found]


class Recorder(TorchDispatchMode):
    """Records the operations that run, those of backward passes too, and keeps their tensors alive."""

    def __init__(self, check: Callable[[str], None] | None = None) -> None:
        """Begin to record.

        Args:
            check: raises for the name of an operation that is not to run.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self._check = check
        self._storages: set[int] = set()
        self._bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler to disable it, which takes half as long as importing torch

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = kernel._schema.name.removeprefix("aten::")
        if name in READ:
            raise CannotCompileError("the step depends on the value of a tensor in Python")
        if torch.Tag.nondeterministic_seeded in kernel.tags:
            raise CannotCompileError(f"the step draws random numbers, by {name}")
        if self._check is not None:
            self._check(name)
        found = kernel(*args, **(kwargs or {}))
        self.calls.append(Call(name, kernel, args, kwargs or {}, found))
        self._count(self.calls[-1])
        return found

    def _count(self, call: Call) -> None:
        for one in call.results:
            if isinstance(one, Tensor) and not one._is_zerotensor():
                storage = one.untyped_storage()
                if storage.data_ptr() not in self._storages:
                    self._storages.add(storage.data_ptr())
                    self._bytes += storage.nbytes()
        if self._bytes > MOST_BYTES:
            raise CannotCompileError(f"the numbers of a step take more than {MOST_BYTES // 2**20} MiB")


@dataclass(frozen=True)
class Recording:
    """A step as it ran once; nested tuples are flat.

    Attributes:
        calls: of torch's operations, in their order.
        states: the carry before the step.
        after: the carry after it.
        inputs: of the step.
        outputs: of the step.
    """

    calls: Sequence[Call]
    states: Sequence[Any]
    after: Sequence[Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]

    @classmethod
    def of(
        cls,
        step: PureStep,
        carry: Any,
        inputs: Any,
        *,
        at_once: bool,
        check: Callable[[str], None] | None = None,
    ) -> "Recording":
        """Make a step and record it.

        Args:
            step: of a carry and inputs to the next carry and outputs, nested tuples of tensors; each tensor has the
                rows in front, or belongs to all rows.
            carry: before a step.
            inputs: of that step.
            at_once: whether all rows are to be evaluated at once, whatever their number.
            check: raises for the name of an operation that is not to run.

        Raises:
            CannotCompileError: what the step does, or keeps, is not the same at each step.
        """
        recorder = Recorder(check)
        with recorded(at_once=at_once), recorder:
            following, outputs = step(carry, inputs)
        made = cls(recorder.calls, *map(pytree.tree_leaves, (carry, following, inputs, outputs)))
        made._check()
        return made

    def _check(self) -> None:
        if len(self.states) != len(self.after) or len({id(one) for one in self.states}) != len(self.states):
            raise CannotCompileError("what it keeps changes its form")
        for number, after in self.changed:
            before = self.states[number]
            if not isinstance(before, Tensor) or not isinstance(after, Tensor):
                raise CannotCompileError("it keeps values that are no tensors")
            if before.shape != after.shape or before.dtype != after.dtype:
                raise CannotCompileError("what it keeps changes its shape")

    @cached_property
    def kept(self) -> frozenset[int]:
        """Which tensors of the carry no step changes."""
        pairs = zip(self.states, self.after, strict=True)
        return frozenset(number for number, (one, other) in enumerate(pairs) if one is other)

    @property
    def changed(self) -> list[tuple[int, Any]]:
        """The tensors of the carry after a step that changes them, with their numbers."""
        return [(number, one) for number, one in enumerate(self.after) if number not in self.kept]

    @property
    def computed(self) -> list[tuple[int, Tensor]]:
        """The tensors of the outputs that are no inputs, with their numbers."""
        pairs = enumerate(zip(self.outputs, self._given_back, strict=True))
        return [(number, one) for number, (one, back) in pairs if back is None and isinstance(one, Tensor)]

    @cached_property
    def _given_back(self) -> list[int | None]:
        inputs = {id(one): number for number, one in enumerate(self.inputs) if one is not None}
        return [inputs.get(id(one)) for one in self.outputs]

    @property
    def form(self) -> "Form":
        """What the step takes and gives."""
        shapes = {number: (tuple(one.shape[1:]), one.dtype) for number, one in self.computed}
        return Form(self.kept, self._given_back, [shapes.get(number) for number in range(len(self.outputs))])


@dataclass(frozen=True)
class Form:
    """What a step takes and gives.

    Attributes:
        kept: which tensors of the carry no step changes.
        given_back: for each tensor of the outputs, the input that it is; None if it is computed.
        outputs: the shape of one run of each tensor of the outputs, and its dtype; None for one that is not computed.
    """

    kept: frozenset[int]
    given_back: Sequence[int | None]
    outputs: Sequence[tuple[tuple[int, ...], torch.dtype] | None]

    def new_outputs(self, steps: int, runs: int, memory: ReusedMemory) -> list[Tensor | None]:
        """Return tensors for the outputs of so many steps and runs; None for one that is not computed."""
        made = iter(memory.tensors([((steps, runs, *one[0]), one[1]) for one in self.outputs if one is not None]))
        return [None if one is None else next(made) for one in self.outputs]

"""The recorded calls of a step, made again for many steps by a program that calls torch's kernels without Python."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runner.compiling.programs import Source
from runner.compiling.recording import Call, CannotCompileError, Form, Recording

# The numbers that torch's C++ code has for these.
DTYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
NUMBERS: dict[Any, int] = {
    **DTYPES, torch.strided: 0, torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2,
}  # fmt: skip
# By what is recorded of them: derivatives for which torch chooses kernels by the values, but not while it is recorded.
CHOSEN_BY_VALUE = {"cumprod": "the derivative of prod", "_linalg_det": "the derivative of det"}


@dataclass(frozen=True)
class Argument:
    """An argument of a call.

    Attributes:
        place: among the arguments of the operator.
        kind: n for none, i for int, d for float, b for bool, s for text, t for tensor; a capital letter for a list.
        values: the numbers; of a tensor, its slot, -1 for none.
        text: of kind s.
    """

    place: int
    kind: str
    values: tuple[float, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Instruction:
    """A call to be made again.

    Attributes:
        name: of the operator.
        overload: of the operator.
        is_before: whether it is made once, before the first step, because nothing that it reads changes.
        arguments: those that are given.
        results: the slots of what it returns, -1 for none.
        last_used: the slots that no later call of the step reads.
    """

    name: str
    overload: str
    is_before: bool
    arguments: tuple[Argument, ...]
    results: tuple[int, ...]
    last_used: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """A step as calls on numbered slots, each of which holds a tensor.

    Attributes:
        source: of the program that makes such calls, the same for all steps.
        form: what the step takes and gives.
        constants: what the step reads besides carry and inputs, by slot.
        instructions: the calls in their order.
        states: the slots of the carry before the step.
        strides: of the tensors of the carry; None for what is no tensor.
        after: the slots of the carry after it.
        inputs: the slots of the inputs, -1 for none.
        outputs: the slots of the outputs, -1 for none that is computed.
        slots: how many there are.
        inexact: the operations that may round otherwise than torch's.
    """

    source: Source
    form: Form
    constants: dict[int, Tensor]
    instructions: Sequence[Instruction]
    states: Sequence[int]
    strides: Sequence[tuple[int, ...] | None]
    after: Sequence[int]
    inputs: Sequence[int]
    outputs: Sequence[int]
    slots: int
    inexact: frozenset[str]


@cache
def _source() -> Source:
    folder = Path(torch.__file__).parent
    return Source(
        Path(__file__).with_name("kernels.cpp").read_text(encoding="utf-8"),
        (
            "-std=c++20", "-O1", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            f"-I{folder / 'include'}", f"-L{folder / 'lib'}", "-ltorch_cpu", "-lc10",
        ),
    )  # fmt: skip


def replayed(recording: Recording) -> Replay:
    """Return the calls of a step, to be made again.

    Raises:
        CannotCompileError: a call cannot be made again from its arguments.
    """
    if sys.platform != "linux":
        raise CannotCompileError(f"programs need Linux, the system is {sys.platform}")
    slots = _Slots(recording, _changed_storages(recording.calls))
    states, inputs = [[slots.argument(one) for one in given] for given in (recording.states, recording.inputs)]
    # What is no tensor, such as whether sizes are the same, is the same at each step.
    made = [_instruction(slots, call) for call in recording.calls if _is_needed(call)]
    after = [slots.of(one) if isinstance(one, Tensor) else -1 for one in recording.after]
    outputs = [-1] * len(recording.outputs)
    for number, one in recording.computed:
        outputs[number] = slots.of(one)
    needed = {*states, *after, *inputs, *outputs, *slots.fixed}
    instructions = _with_last_uses(made, needed)
    return Replay(
        _source(),
        recording.form,
        slots.constants,
        instructions,
        states,
        [_dense_strides(one) for one in recording.states],
        after,
        inputs,
        outputs,
        slots.count,
        frozenset(CHOSEN_BY_VALUE[call.name] for call in recording.calls if call.name in CHOSEN_BY_VALUE),
    )


def _dense_strides(one: Any) -> tuple[int, ...] | None:
    """Return the strides of a tensor, or those that it has where each number has a place of its own."""
    return torch.empty_like(one).stride() if isinstance(one, Tensor) else None


class _Slots:
    """The numbers of the tensors of a step."""

    def __init__(self, recording: Recording, changed: set[int]) -> None:
        self._recording = recording  # keeps the tensors, whose identities are looked up
        self.changed = changed
        self._slots: dict[int, int] = {}
        self._places: dict[Any, int] = {}
        self._storages: set[int] = set()
        self.constants: dict[int, Tensor] = {}
        self.fixed: set[int] = set()
        self.count = 0

    def argument(self, one: Any) -> int:
        """Return the slot of a tensor that the step is given; -1 for anything else."""
        return self.result(one) if isinstance(one, Tensor) else -1

    def result(self, tensor: Tensor) -> int:
        """Return the slot of a tensor that is computed."""
        self._storages.add(_storage(tensor))
        return self._new(tensor)

    def of(self, tensor: Tensor) -> int:
        """Return the slot of a tensor; one that nothing has computed is a constant of the step."""
        found = self._slots.get(id(tensor), self._places.get(_place(tensor)))
        if found is not None:
            return found
        if _storage(tensor) in self._storages - {0}:
            raise CannotCompileError("it reads a tensor by another name")
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided:
            raise CannotCompileError(f"it reads a tensor of {tensor.dtype}, {tensor.layout}")
        slot = self._new(tensor)
        self.constants[slot] = tensor
        if _storage(tensor) not in self.changed:
            self.fixed.add(slot)
        return slot

    def _new(self, tensor: Tensor) -> int:
        if id(tensor) not in self._slots:
            self._slots[id(tensor)] = self.count
            self._places[_place(tensor)] = self.count
            self.count += 1
        return self._slots[id(tensor)]


def _storage(tensor: Tensor) -> int:
    """Return where the memory of a tensor begins; 0 for one that is known to be zero and has no memory."""
    return 0 if tensor._is_zerotensor() else tensor.untyped_storage().data_ptr()


def _place(tensor: Tensor) -> Any:
    if tensor._is_zerotensor():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_neg()


def _is_needed(call: Call) -> bool:
    """Return whether a call returns tensors, or nothing, as one that checks numbers does."""
    return any(map(_is_tensor, call.results)) or not call.kernel._schema.returns  # type: ignore[attr-defined]


def _is_tensor(one: Any) -> bool:
    return isinstance(one, Tensor)


def _changed_storages(calls: Sequence[Call]) -> set[int]:
    """Return the memory that calls write to, besides that of new tensors."""
    found = set()
    for call in calls:
        for argument, given in _given(call):
            if argument.alias_info is not None and argument.alias_info.is_write:
                found |= {_storage(one) for one in (given if isinstance(given, list) else [given])}
    return found


def _given(call: Call) -> Iterator[tuple[Any, Any]]:
    """Yield the arguments of the operator that are given, with their values."""
    declared = call.kernel._schema.arguments  # type: ignore[attr-defined]
    yield from zip(declared, call.given, strict=False)
    for argument in declared:
        if argument.name in call.named:
            yield argument, call.named[argument.name]


def _instruction(slots: _Slots, call: Call) -> Instruction:
    schema = call.kernel._schema  # type: ignore[attr-defined]
    places = {argument.name: place for place, argument in enumerate(schema.arguments)}
    arguments = tuple(_argument(slots, places[one.name], given) for one, given in _given(call))
    results = [one if _is_tensor(one) else None for one in call.results if schema.returns]
    written = {_storage(one) for one in results if one is not None} - {0}
    is_before = _read(arguments) <= slots.fixed and not written & slots.changed and bool(results)
    made = tuple(-1 if one is None else slots.result(one) for one in results)
    if is_before:
        slots.fixed |= set(made)
    return Instruction(schema.name, schema.overload_name, is_before, arguments, made, ())


def _read(arguments: Sequence[Argument]) -> set[int]:
    """Return the slots of the tensors among arguments."""
    return {int(slot) for one in arguments if one.kind in "tT" for slot in one.values if slot >= 0}


def _argument(slots: _Slots, place: int, given: Any) -> Argument:
    if given is None:
        return Argument(place, "n")
    if isinstance(given, Tensor):
        return Argument(place, "t", (slots.of(given),))
    if isinstance(given, str | torch.device):
        return Argument(place, "s", text=str(given))
    if not isinstance(given, list | tuple):
        return Argument(place, _kind(given), (_number(given),))
    if any(isinstance(one, Tensor) for one in given):
        return Argument(place, "T", tuple(-1 if one is None else slots.of(one) for one in given))
    kinds = {_kind(one) for one in given} or {"i"}
    kind = "d" if kinds == {"i", "d"} else kinds.pop() if len(kinds) == 1 else ""
    if kind not in ("b", "i", "d"):
        raise CannotCompileError(f"it calls an operation with {given!r}")
    return Argument(place, kind.upper(), tuple(map(_number, given)))


def _kind(given: Any) -> str:
    if isinstance(given, bool):
        return "b"
    if isinstance(given, float):
        return "d"
    if isinstance(given, int | torch.dtype | torch.layout | torch.memory_format):
        return "i"
    raise CannotCompileError(f"it calls an operation with {given!r}")


def _number(given: Any) -> float:
    return NUMBERS[given] if isinstance(given, torch.dtype | torch.layout | torch.memory_format) else given


def _with_last_uses(instructions: Sequence[Instruction], needed: set[int]) -> list[Instruction]:
    """Return the instructions, each with the slots that may be emptied after it."""
    seen, found = set(needed), list[Instruction]()
    for one in reversed(instructions):
        last = (_read(one.arguments) | set(one.results)) - {-1} - seen
        seen |= last
        found.append(replace(one, last_used=tuple(sorted(last))))
    return found[::-1]

"""From a pure step to the source of a program that makes many steps, and what that program is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from runner.compiling.lowering import Lowering, Value, check_known
from runner.compiling.operations import OPERATIONS
from runner.compiling.recording import CannotCompileError, Recorder
from runner.compiling.source import Assigned, source_of
from runner.tensors.tracing import recorded

PureStep = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Translation:
    """A step as source, and the tensors that a program of it is given.

    Attributes:
        source: of the program.
        constants: what the step reads besides carry and inputs.
        kept: which tensors of the carry no step changes.
        given_back: for each tensor of the outputs, the input that it is; None if it is computed.
        outputs: the shape of one step of each tensor of the outputs, and its dtype; None where there is no tensor.
        inexact: the operations that may round otherwise than torch's.
        spec: how the outputs are nested.
    """

    source: str
    constants: Sequence[Tensor]
    kept: frozenset[int]
    given_back: Sequence[int | None]
    outputs: Sequence[tuple[tuple[int, ...], torch.dtype]]
    inexact: frozenset[str]
    spec: Any


def translated(step: PureStep, carry: Any, inputs: Any, rows: int) -> Translation:
    """Return the translation of a step.

    Args:
        step: of a carry and inputs to the next carry and outputs, nested tuples of tensors; each tensor has the rows
            in front, or belongs to all rows.
        carry: before a step.
        inputs: of that step.
        rows: how many there are.

    Raises:
        CannotCompileError: it cannot be translated.
    """
    recorder = Recorder()
    with recorded(), recorder:
        following, outputs = step(carry, inputs)
    check_known(recorder.calls, OPERATIONS)
    states, after = pytree.tree_leaves(carry), pytree.tree_leaves(following)
    asked = pytree.tree_leaves(inputs)
    results, spec = pytree.tree_flatten(outputs)
    if len(states) != len(after) or len({id(one) for one in states}) != len(states):
        raise CannotCompileError("what it keeps changes its form")
    lowering = Lowering(rows)
    kept = frozenset(number for number, (one, other) in enumerate(zip(states, after, strict=True)) if one is other)
    for number, one in enumerate(states):
        if isinstance(one, Tensor):
            lowering.argument(one, "held" if number in kept else "state", number)
    for number, one in enumerate(asked):
        if isinstance(one, Tensor):
            lowering.argument(one, "input", number)
    lowering.run(recorder.calls, OPERATIONS)
    changed = [(number, one) for number, one in enumerate(after) if number not in kept]
    if not all(isinstance(one, Tensor) for _, one in changed):
        raise CannotCompileError("it keeps values that are no tensors")
    given_back = [_index_of(one, asked) for one in results]
    computed = [(number, one) for number, one in enumerate(results) if given_back[number] is None and _is_tensor(one)]
    stored = [_assigned(lowering, number, one, None) for number, one in computed]
    kept_on = [_assigned(lowering, number, one, lowering.value(states[number])) for number, one in changed]
    return Translation(
        source_of(lowering.nodes, list(chain.from_iterable(stored)), list(chain.from_iterable(kept_on))),
        lowering.constants,
        kept,
        given_back,
        [(tuple(one.shape), one.dtype) if _is_tensor(one) else ((), torch.float32) for one in results],
        frozenset(lowering.nodes.inexact),
        spec,
    )


def _is_tensor(one: Any) -> bool:
    return isinstance(one, Tensor)


def _index_of(one: Any, asked: Sequence[Any]) -> int | None:
    return next((number for number, other in enumerate(asked) if one is other and one is not None), None)


def _assigned(lowering: Lowering, number: int, tensor: Tensor, like: Value | None) -> list[Assigned]:
    value = lowering.value(tensor)
    if like is not None and (value.codes.shape != like.codes.shape or value.dtype != like.dtype):
        raise CannotCompileError("what it keeps changes its shape")
    if like is not None and value.axis is not None and value.axis != like.axis:
        raise CannotCompileError("what it keeps changes its shape")
    if like is None and lowering.rows > 1 and value.axis != -tensor.dim():
        raise CannotCompileError("a result is the same for all runs")
    letter = value.letter
    return [
        Assigned(number, item, lowering.nodes.as_vector(int(node), letter))
        for item, node in enumerate(value.codes.ravel())
    ]

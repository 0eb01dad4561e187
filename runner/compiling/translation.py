"""From a recorded step to the source of a program that makes many steps, one run in each lane of a vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from torch import Tensor

from runner.compiling.lowering import Lowering, Value
from runner.compiling.operations import OPERATIONS
from runner.compiling.programs import Source, vector_bytes
from runner.compiling.recording import CannotCompileError, Form, Recording
from runner.compiling.source import Assigned, source_of

FLAGS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-fno-math-errno")


@dataclass(frozen=True)
class Translation:
    """A step as source, and the tensors that a program of it is given.

    Attributes:
        source: of the program.
        form: what the step takes and gives.
        constants: what the step reads besides carry and inputs.
        inexact: the operations that may round otherwise than torch's.
    """

    source: Source
    form: Form
    constants: Sequence[Tensor]
    inexact: frozenset[str]


def check_translated(name: str) -> None:
    """Check that an operation has a translation.

    Raises:
        CannotCompileError: it has none.
    """
    if name in ("mm", "bmm", "addmm", "baddbmm", "convolution"):
        raise CannotCompileError("the step multiplies matrices, which torch's kernels do faster")
    if name not in OPERATIONS:
        raise CannotCompileError(f"torch's operation {name} has no translation")


def translated(recording: Recording, rows: int, *, is_padded: bool = True) -> Translation:
    """Return the translation of a step.

    Args:
        recording: of the step.
        rows: that its tensors have.
        is_padded: whether a run alone has as many rows as fill vectors, or one.

    Raises:
        CannotCompileError: it cannot be translated.
    """
    for call in recording.calls:
        check_translated(call.name)
    lowering = Lowering(rows, is_padded)
    for number, one in enumerate(recording.states):
        if isinstance(one, Tensor):
            lowering.argument(one, "held" if number in recording.kept else "state", number)
    for number, one in enumerate(recording.inputs):
        if isinstance(one, Tensor):
            lowering.argument(one, "input", number)
    lowering.run(recording.calls, OPERATIONS)
    stored = [_assigned(lowering, number, one, None) for number, one in recording.computed]
    kept_on = [
        _assigned(lowering, number, one, lowering.value(recording.states[number])) for number, one in recording.changed
    ]
    text = source_of(lowering.nodes, list(chain.from_iterable(stored)), list(chain.from_iterable(kept_on)))
    return Translation(
        Source(text, (*FLAGS, f"-DBYTES={vector_bytes()}")),
        recording.form,
        lowering.constants,
        frozenset(lowering.nodes.inexact),
    )


def _assigned(lowering: Lowering, number: int, tensor: Tensor, like: Value | None) -> list[Assigned]:
    value = lowering.value(tensor)
    if like is not None and value.codes.shape != like.codes.shape:
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

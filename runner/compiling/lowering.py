"""From recorded operations on tensors of rows to the numbers of one row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.compiling.nodes import Nodes, letter_of
from runner.compiling.recording import Call, CannotCompileError

Codes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Value:
    """A tensor of the step.

    Attributes:
        codes: the nodes of its numbers; the axis of the rows has the length 1.
        axis: of the rows, counted from the last, as -1; None for a tensor that all rows share.
        dtype: of the tensor.
    """

    codes: Codes
    axis: int | None
    dtype: torch.dtype

    @property
    def letter(self) -> str:
        """The letter of its vectors in the source."""
        return letter_of(self.dtype)


class MixesRunsError(CannotCompileError):
    """A number would be taken from another run's row."""


Operation = Callable[["Lowering", Call], Any]


@dataclass
class Lowering:
    """Translates the calls of a step, in their order.

    Attributes:
        rows: how many rows the tensors have.
        is_padded: whether a run alone has as many rows as fill vectors, or one.
        nodes: the numbers of a row.
        constants: the tensors that the step reads besides its arguments, in the order of their first use.
    """

    rows: int
    is_padded: bool = True
    nodes: Nodes = field(default_factory=Nodes)
    constants: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values: dict[int, Value] = {}
        self._mixed: dict[int, str] = {}
        self._kept: list[Tensor] = []
        self._storages: dict[int, set[int]] = {}

    def argument(self, tensor: Tensor, kind: str, number: int, axis: int = 0) -> Value:
        """Make a tensor known as an argument of the step, or one of its constants; return its value."""
        axis_of_rows = self._axis(tensor, axis)
        shape = list(tensor.shape)
        if axis_of_rows is not None:
            shape[axis_of_rows] = 1
        letter = letter_of(tensor.dtype)
        count = int(np.prod(shape, dtype=np.int64))
        if count > 4096:
            raise CannotCompileError(f"it has a tensor of {count:,} numbers a run")
        codes = [self.nodes.add(kind, (), letter, f"{number},{index}") for index in range(count)]
        value = Value(
            np.array(codes, dtype=np.int64).reshape(shape),
            None if axis_of_rows is None else axis_of_rows - tensor.dim(),
            tensor.dtype,
        )
        self.keep(tensor, value)
        return value

    def _axis(self, tensor: Tensor, axis: int) -> int | None:
        return axis if self.rows > 1 and tensor.dim() > axis and tensor.shape[axis] == self.rows else None

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Make the value of a tensor known."""
        if tuple(tensor.shape) != self.shape_of(value):
            raise CannotCompileError("it mixes the rows of runs")
        self._values[id(tensor)] = value
        self._kept.append(tensor)
        if tensor.numel() > 0:
            self._storages.setdefault(tensor.untyped_storage().data_ptr(), set()).add(id(tensor))

    def shape_of(self, value: Value) -> tuple[int, ...]:
        """Return the shape of the tensor of a value."""
        shape = list(value.codes.shape)
        if value.axis is not None:
            shape[value.axis] = self.rows
        return tuple(shape)

    def is_known(self, tensor: Tensor) -> bool:
        """Return whether the tensor is an argument or has been computed."""
        return id(tensor) in self._values

    def value(self, tensor: Tensor) -> Value:
        """Return the value of a tensor; one that nothing has computed is a constant of the step."""
        if id(tensor) in self._mixed:
            raise CannotCompileError(f"it mixes the numbers of several runs, by {self._mixed[id(tensor)]}")
        if id(tensor) not in self._values:
            if tensor.untyped_storage().data_ptr() in self._storages:
                raise CannotCompileError("it reads a tensor by another name")
            self.constants.append(tensor)
            self.argument(tensor, "constant", len(self.constants) - 1)
        return self._values[id(tensor)]

    def run(self, calls: Sequence[Call], operations: Mapping[str, Operation]) -> None:
        """Translate the calls.

        Raises:
            CannotCompileError: an operation mixes rows.
        """
        for call in calls:
            try:
                found = operations[call.name](self, call)
            except MixesRunsError:  # of no matter where nothing is computed of it
                results = call.found if isinstance(call.found, tuple | list) else [call.found]
                self._mixed |= {id(one): call.name for one in results}
                self._kept += results
            else:
                self._keep_results(call, found)

    def _keep_results(self, call: Call, found: Any) -> None:
        results = call.found if isinstance(call.found, tuple | list) else [call.found]
        values = found if isinstance(found, list) else [found]
        for tensor, value in zip(results, values, strict=True):
            is_changed = any(tensor is given for given in call.given)
            if is_changed and len(self._storages.get(tensor.untyped_storage().data_ptr(), ())) > 1:
                raise CannotCompileError(f"{call.name} changes a tensor that has another name")
            self.keep(tensor, value)

    def full(self, value: Value) -> Tensor:
        """Return an integer tensor in the shape of the tensor, each number coding a node and a row, 0 for all rows."""
        codes = torch.from_numpy(value.codes.copy()) * (self.rows + 1)
        if value.axis is None:
            return codes
        lanes = torch.arange(1, self.rows + 1).view(-1, *[1] * (-value.axis - 1))
        return codes + lanes

    def moved(self, codes: Tensor, dtype: torch.dtype) -> Value:
        """Return the value of a tensor whose numbers were coded by `full` and then moved.

        Raises:
            CannotCompileError: the numbers of several rows were mixed.
        """
        lanes, nodes = codes % (self.rows + 1), codes.div(self.rows + 1, rounding_mode="floor")
        if not bool(lanes.any()):
            first = nodes[:1] if self._axis(nodes, 0) is not None else nodes
            if first is not nodes and bool((nodes == first).all()):  # the same for all rows, once a row
                return Value(first.numpy().copy(), -nodes.dim(), dtype)
            return Value(nodes.numpy().copy(), None, dtype)
        for axis in range(codes.dim()):
            if codes.shape[axis] != self.rows:
                continue
            own = torch.arange(1, self.rows + 1).view(-1, *[1] * (codes.dim() - axis - 1))
            first = nodes.narrow(axis, 0, 1)
            if bool(((lanes == own) | (lanes == 0)).all()) and bool((nodes == first).all()):
                return Value(first.numpy().copy(), axis - codes.dim(), dtype)
        raise MixesRunsError("it mixes the numbers of several runs")

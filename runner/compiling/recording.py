"""Recording the operations of a function of tensors while torch runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

READ = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero")


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


class Recorder(TorchDispatchMode):
    """Records the operations that run, those of backward passes too, and keeps their tensors alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler to disable it, which takes half as long as importing torch

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = kernel._schema.name.removeprefix("aten::")
        if name in READ:
            raise CannotCompileError("the step depends on the value of a tensor in Python")
        found = kernel(*args, **(kwargs or {}))
        self.calls.append(Call(name, kernel, args, kwargs or {}, found))
        return found
